//! Credentials as a file.

use nex_protocol::NatsConnectionData;

/// The text of a `.creds` file, where the credentials are a JWT with its seed.
#[must_use]
pub fn creds_file(credentials: &NatsConnectionData) -> Option<String> {
    let NatsConnectionData {
        nats_user_jwt: jwt,
        nats_user_seed: seed,
        ..
    } = credentials;
    let is_jwt = !jwt.is_empty() && !seed.is_empty();
    is_jwt.then(|| nex_credentials::creds_file(jwt, seed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_jwt_makes_a_creds_file() {
        let mut credentials = NatsConnectionData {
            nats_user_seed: "SEED".into(),
            ..NatsConnectionData::default()
        };
        assert_eq!(creds_file(&credentials), None);

        credentials.nats_user_jwt = "JWT".into();

        let text = creds_file(&credentials).unwrap();
        assert!(
            text.contains("\nJWT\n") && text.contains("\nSEED\n"),
            "{text}"
        );
    }
}
