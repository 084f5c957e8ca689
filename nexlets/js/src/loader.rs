//! Finds what a module imports: files of the function, and nothing else.

use std::sync::Arc;

use rquickjs::{
    Ctx, Error, Exception, Module, Result,
    loader::{ImportAttributes, Loader, Resolver},
    module::Declared,
};

use crate::{
    files::Files,
    imports::{explain, place},
};

/// Resolves and loads imports.
#[derive(Clone)]
pub(crate) struct FileLoader(pub(crate) Arc<Files>);

impl Resolver for FileLoader {
    fn resolve<'js>(
        &mut self,
        ctx: &Ctx<'js>,
        base: &str,
        name: &str,
        _attributes: Option<ImportAttributes<'js>>,
    ) -> Result<String> {
        self.0.resolve(base, name).ok_or_else(|| {
            let (text, hint) = explain(&self.0, base, name);
            let place = self.0.text(base).and_then(|text| place(text, name));
            let text = format!("{text}; {hint}");
            throw(ctx, "TypeError", &text, Some(&hint), base, place)
        })
    }
}

/// Throws an error that has its place in a file, as if code there had thrown it.
fn throw(
    ctx: &Ctx<'_>,
    name: &str,
    text: &str,
    hint: Option<&str>,
    file: &str,
    place: Option<(usize, usize)>,
) -> Error {
    let (line, column) = place.unwrap_or((1, 1));
    let thrown = Exception::from_message(ctx.clone(), text).and_then(|exception| {
        let error = exception.as_object();
        error.set("name", name)?;
        if let Some(hint) = hint {
            error.set("hint", hint)?;
        }
        error.set("stack", format!("    at {file}:{line}:{column}\n"))?;
        Ok(exception.throw())
    });
    let (Ok(error) | Err(error)) = thrown;
    error
}

impl Loader for FileLoader {
    fn load<'js>(
        &mut self,
        ctx: &Ctx<'js>,
        name: &str,
        _attributes: Option<ImportAttributes<'js>>,
    ) -> Result<Module<'js, Declared>> {
        let text = self.0.text(name).ok_or_else(|| Error::new_loading(name))?;
        if !name.ends_with(".json") {
            return Module::declare(ctx.clone(), name, text);
        }
        // Read here, so that the text can do nothing but be a value.
        if ctx.json_parse(text).is_err() {
            drop(ctx.catch());
            let place = serde_json::from_str::<serde_json::Value>(text).err();
            let place = place.map(|error| (error.line(), error.column()));
            return Err(throw(
                ctx,
                "SyntaxError",
                "the file is no JSON",
                None,
                name,
                place,
            ));
        }
        let literal = serde_json::to_string(text).unwrap_or_default();
        let module = format!("export default JSON.parse({literal})");
        Module::declare(ctx.clone(), name, module)
    }
}
