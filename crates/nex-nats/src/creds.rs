//! The text of a `.creds` file: a user JWT and its seed between decorated lines.

use nex_protocol::text::without_mark;
use nkeys::KeyPair;

/// A text that is no `.creds` file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCreds {
    /// There is no block with a JWT.
    #[error("no user JWT in the credentials: want a `.creds` file")]
    NoJwt,
    /// There is no block with a seed.
    #[error("no user seed in the credentials: want a `.creds` file")]
    NoSeed,
    /// The seed is damaged.
    #[error("the user seed in the credentials is invalid")]
    InvalidSeed,
}

/// The first line after one that begins a block whose title contains `title`.
fn block<'a>(text: &'a str, title: &str) -> Option<&'a str> {
    let mut lines = without_mark(text).lines();
    lines.find(|line| line.starts_with("---") && line.contains("BEGIN") && line.contains(title))?;
    let content = lines.next()?.trim();
    (!content.is_empty() && !content.starts_with("---")).then_some(content)
}

/// Reads JWT and seed.
///
/// # Errors
/// When a block is missing, or the seed is none of a key pair.
pub fn parse(text: &str) -> Result<(String, String), InvalidCreds> {
    let jwt = block(text, "USER JWT").ok_or(InvalidCreds::NoJwt)?;
    let seed = block(text, "NKEY SEED").ok_or(InvalidCreds::NoSeed)?;
    KeyPair::from_seed(seed).map_err(|_damaged| InvalidCreds::InvalidSeed)?;
    Ok((jwt.to_owned(), seed.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(seed: &str) -> String {
        format!(
            "-----BEGIN NATS USER JWT-----\neyJ0.a.b\n------END NATS USER JWT------\n\n\
             *** IMPORTANT ***\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        )
    }

    #[test]
    fn jwt_and_seed_are_found() {
        let seed = KeyPair::new_user().seed().unwrap();

        let found = Ok(("eyJ0.a.b".to_owned(), seed.clone()));
        assert_eq!(parse(&file(&seed)), found);
        let of_windows = format!("\u{feff}{}", file(&seed).replace('\n', "\r\n"));
        assert_eq!(parse(&of_windows), found);
    }

    #[test]
    fn what_is_missing_is_named() {
        let seed = KeyPair::new_user().seed().unwrap();
        let whole = file(&seed);
        let only_seed = &whole[whole.find("-----BEGIN USER").unwrap()..];
        let only_jwt = &whole[..whole.find("*** IMPORTANT").unwrap()];

        assert_eq!(parse(""), Err(InvalidCreds::NoJwt));
        assert_eq!(parse(only_seed), Err(InvalidCreds::NoJwt));
        assert_eq!(parse(only_jwt), Err(InvalidCreds::NoSeed));
        assert_eq!(parse(&file("SUNONSENSE")), Err(InvalidCreds::InvalidSeed));
    }
}
