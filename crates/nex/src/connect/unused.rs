//! Credentials that somebody has, and that a command did not use.
//!
//! Credentials go only where they were meant to go: those of a context to its servers, those of a `nex up` to its
//! own. Where a server refuses a command without any, its person is told why there are none.

use nex_nats::Auth;

use super::{
    Machine,
    resolve::{Outside as _, Resolved, resolve},
    running::runs,
};
use crate::context::Context;

/// The credentials that were left out and why, with what to type; none where the command has some.
pub(crate) fn unused_credentials(context: &Context) -> Option<String> {
    let machine = Machine(context);
    let flags = &context.global.nats;
    let Ok(Resolved::Found(found)) = resolve(flags, &context.env, &machine) else {
        return None;
    };
    if found.options.auth != Auth::None {
        return None;
    }
    let or_named = "or name the credentials too: `--creds FILE`";
    if !flags.servers.is_empty() {
        if let Ok(Some(name)) = context.env.text("NATS_CONTEXT") {
            return Some(format!(
                "beside `-s` the context `{name}` of `NATS_CONTEXT` counts for nothing, nor do its credentials: \
                 type `--nats.context {name}` for both, {or_named}"
            ));
        }
        if let Some(file) = context.settings.replaced("nats.context") {
            return Some(format!(
                "beside `-s` the context of `{file}` counts for nothing, nor do its credentials: leave `-s` out, \
                 {or_named}"
            ));
        }
    }
    let own = machine.known().into_iter().find(runs)?.access?;
    Some(format!(
        "the credentials of the running `nex up` are for its own address, {}, alone: leave the other one out, \
         {or_named}",
        own.url
    ))
}
