//! Finds what a module imports: files of the function, and nothing else.

use std::sync::Arc;

use rquickjs::{
    Ctx, Error, Module, Result,
    loader::{ImportAttributes, Loader, Resolver},
    module::Declared,
};

use crate::files::Files;

/// Resolves and loads imports.
#[derive(Clone)]
pub(crate) struct FileLoader(pub(crate) Arc<Files>);

impl Resolver for FileLoader {
    fn resolve<'js>(
        &mut self,
        _ctx: &Ctx<'js>,
        base: &str,
        name: &str,
        _attributes: Option<ImportAttributes<'js>>,
    ) -> Result<String> {
        self.0.resolve(base, name).ok_or_else(|| {
            let want = match name.starts_with("./") || name.starts_with("../") {
                true => "the function has no such file",
                false => "want a file of the function, as `./name.js`",
            };
            Error::new_resolving_message(base, name, want)
        })
    }
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
        ctx.json_parse(text)?;
        let literal = serde_json::to_string(text).unwrap_or_default();
        let module = format!("export default JSON.parse({literal})");
        Module::declare(ctx.clone(), name, module)
    }
}
