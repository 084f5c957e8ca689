//! The code of a function, checked as far as that goes without running it.

use std::{path::Path, sync::Arc, time::Instant};

use nex_functions::{Failure, FailureKind, LOAD_TIMEOUT, Position, Source};
use rquickjs::{Context, Module, Runtime, context::EvalOptions};

use crate::{
    engine::MAX_STACK_BYTES,
    failure::Thrown,
    files::{Files, checked},
    loader::FileLoader,
};

/// The memory for reading a script, in bytes: many times the largest one.
const PARSE_MEMORY_BYTES: usize = 64 * 1024 * 1024;

/// The code of a function. Its text is handed to a runtime as it is.
#[derive(Debug)]
pub struct Script {
    /// How messages name the whole.
    name: String,
    files: Arc<Files>,
    form: Form,
}

/// How the file that is run is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// A script whose value is the function.
    Script,
    /// A module whose default export is the function.
    Module,
}

impl Script {
    /// Takes a source that is UTF-8 and has no zero bytes, or an archive of such files.
    pub(crate) fn new(source: &Source) -> Result<Self, Failure> {
        let name = source.shown_name().replace('\0', "");
        let files = if Files::is_archive(&source.code) {
            Files::of_archive(&name, &source.code)?
        } else {
            let text = checked(&name, source.code.to_vec())?;
            Files::one(name.clone(), text)
        };
        let name = match files.is_archive {
            true => files.entry().to_owned(),
            false => name,
        };
        // Of one file, by the name that stays: it may be uploaded again from another one.
        let is_module = match files.is_archive {
            true => is_mjs(&name),
            false => is_mjs(&source.name),
        };
        let files = Arc::new(files);
        Ok(Self {
            name,
            form: form(&files, is_module)?,
            files,
        })
    }

    /// The path of the file that is run.
    pub(crate) fn name(&self) -> &str {
        self.files.entry()
    }

    pub(crate) fn text(&self) -> &str {
        self.files.text(self.files.entry()).unwrap_or_default()
    }

    pub(crate) fn files(&self) -> &Arc<Files> {
        &self.files
    }

    pub(crate) fn form(&self) -> Form {
        self.form
    }

    /// The failure of setting the script up, as it is told to who wanted to start it.
    pub(crate) fn refused(&self, failure: Failure) -> Failure {
        if failure.kind != FailureKind::Code {
            return failure;
        }
        let place = match &failure.position {
            Some(position) => position.to_string(),
            None => self.name.clone(),
        };
        let message = match failure.message.strip_prefix("SyntaxError: ") {
            Some(problem) => format!("syntax error at {place}: {problem}"),
            None => format!("the script failed at {place}: {}", failure.message),
        };
        Failure {
            kind: FailureKind::Invalid,
            message,
            position: failure.position,
            hint: failure.hint,
        }
    }

    /// The failure of code that gives nothing that can be called.
    pub(crate) fn no_function(&self, kind: &str) -> Failure {
        let name = &self.name;
        let (what, hint) = match self.form {
            Form::Script => (
                "value",
                "want a script that ends in `(subject, payload) => …`",
            ),
            Form::Module => (
                "default export",
                "want `export default async (request, nex) => …`",
            ),
        };
        let message = format!("the {what} of {name} is no function but {kind}");
        Failure::new(FailureKind::Invalid, message).with_hint(hint)
    }
}

fn is_mjs(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|ext| ext == "mjs")
}

/// Tells whether the file that is run is a module: it is if it ends in `.mjs`, or if it can be read
/// as a module only, which is so with `import` and `export`.
fn form(files: &Arc<Files>, is_module: bool) -> Result<Form, Failure> {
    if is_module {
        return Ok(Form::Module);
    }
    let (name, text) = (files.entry(), files.text(files.entry()).unwrap_or_default());
    let internal = |error: rquickjs::Error| Failure::new(FailureKind::Internal, error.to_string());
    let runtime = Runtime::new().map_err(internal)?;
    runtime.set_max_stack_size(MAX_STACK_BYTES);
    runtime.set_memory_limit(PARSE_MEMORY_BYTES);
    let deadline = Instant::now() + LOAD_TIMEOUT;
    runtime.set_interrupt_handler(Some(Box::new(move || Instant::now() >= deadline)));
    // Reading a module reads what it imports, too.
    let loader = FileLoader(Arc::clone(files));
    runtime.set_loader(loader.clone(), loader);
    let context = Context::full(&runtime).map_err(internal)?;
    let form = context.with(|ctx| {
        let Err(as_script) = read_script(&ctx, files, text) else {
            return Form::Script;
        };
        let Err(error) = Module::declare(ctx.clone(), name, text) else {
            return Form::Module;
        };
        drop(error);
        let thrown = Thrown::take(&ctx, files);
        let here = |position: &Position| position.file == name;
        if !thrown.text.starts_with("SyntaxError") || !thrown.position.as_ref().is_some_and(here) {
            // As far as it goes, it is one: something that it imports is wrong.
            return Form::Module;
        }
        // It is neither. The problem is told where reading got further.
        match place(thrown.position) > place(as_script) {
            true => Form::Module,
            false => Form::Script,
        }
    });
    if Instant::now() >= deadline {
        // Reading was interrupted, so its errors say nothing.
        return Err(Failure::new(FailureKind::Deadline, "interrupted"));
    }
    Ok(form)
}

/// Reads a text as a script without running it: the first thing that it does is to throw `null`.
fn read_script(ctx: &rquickjs::Ctx<'_>, files: &Files, text: &str) -> Result<(), Option<Position>> {
    // A line that begins with `#!` must stay the first.
    let (mark, rest) = match text.starts_with("#!") {
        true => text.split_at(text.find('\n').map_or(text.len(), |at| at + 1)),
        false => ("", text),
    };
    let mut options = EvalOptions::default();
    options.global = true;
    options.strict = false;
    options.filename = Some(files.entry().to_owned());
    let read = ctx.eval_with_options::<(), _>(format!("{mark}throw null;{rest}"), options);
    drop(read);
    let thrown = ctx.catch();
    match thrown.is_error() {
        true => Err(Thrown::of(&thrown, files).position),
        false => Ok(()),
    }
}

fn place(position: Option<Position>) -> Option<(u32, u32)> {
    position.map(|position| (position.line, position.column))
}
