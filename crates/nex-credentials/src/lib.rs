//! Who may say what on NATS: user, account and operator JWTs, and the permissions in them.
//!
//! A [`Minter`] makes the connection data that a node hands to nexlets and workloads. With a
//! signing key each gets a user of its own, with the [`Permissions`] of its part; without one all
//! get what the node itself connects with. [`jwt`] has the claims, for whoever sets up a server.
//!
//! Not here: where keys are kept, and the server that checks what is minted.

pub mod jwt;
mod minter;
mod permissions;

pub use minter::{MintError, Minter, TlsFiles, WorkloadGrant, mint_user};
pub use permissions::{Allow, Permissions};

/// The text of a `.creds` file, as every NATS client reads it.
#[must_use]
pub fn creds_file(jwt: &str, seed: &str) -> String {
    format!(
        "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
         ************************* IMPORTANT *************************\n\
         NKEY Seed printed below can be used to sign and prove identity.\n\
         NKEYs are sensitive and should be treated as secrets.\n\n\
         -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n\n\
         *************************************************************\n"
    )
}
