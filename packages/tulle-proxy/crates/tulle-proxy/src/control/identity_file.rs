//! The file that says where this process gets its identity (`--identity`).

use std::path::PathBuf;

use tulle_identity::attest::Attestation;
use tulle_identity::join::{JoinConfig, TokenSource};

/// Its fields; anything else in it is an error.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdentityFile {
    /// host:port that takes join tokens.
    pub ca_address: String,
    /// host:port that takes the current certificate.
    pub renew_address: String,
    pub trust_anchor_file: PathBuf,
    /// Either this,
    #[serde(default)]
    pub join_token_file: Option<PathBuf>,
    /// or a Unix socket of the control plane's, where the kernel says whose process this is,
    #[serde(default)]
    pub attest_socket: Option<PathBuf>,
    /// and which workload it is (`NAMESPACE/NAME`).
    #[serde(default)]
    pub workload: Option<String>,
    pub server_name: String,
    pub trust_domain: String,
    pub key_algorithm: KeyAlgorithm,
    /// Only this process's user may read it.
    pub state_dir: PathBuf,
}

/// Which keys may be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Deserialize)]
pub enum KeyAlgorithm {
    #[serde(rename = "ec-p256")]
    EcP256,
}

impl IdentityFile {
    /// Parses YAML (of which JSON is a part).
    ///
    /// # Errors
    /// With the line and the field, when a field is missing, unknown or of another type.
    pub fn parse(text: &str) -> Result<IdentityFile, serde_norway::Error> {
        let file: IdentityFile = serde_norway::from_str(text)?;
        if file.token_source().is_none() {
            let wanted = "either join_token_file or both attest_socket and workload must be set";
            return Err(serde::de::Error::custom(wanted));
        }
        Ok(file)
    }

    fn token_source(&self) -> Option<TokenSource> {
        match (&self.join_token_file, &self.attest_socket, &self.workload) {
            (Some(file), None, None) => Some(TokenSource::File(file.clone())),
            (None, Some(socket), Some(workload)) => {
                Some(TokenSource::Attested(Attestation { socket: socket.clone(), workload: workload.clone() }))
            }
            _ => None,
        }
    }

    /// `None` for a file that [`IdentityFile::parse`] would have refused.
    pub fn join_config(&self) -> Option<JoinConfig> {
        Some(JoinConfig {
            join_address: self.ca_address.clone(),
            renew_address: self.renew_address.clone(),
            server_name: self.server_name.clone(),
            trust_anchor_file: self.trust_anchor_file.clone(),
            token: self.token_source()?,
            state_directory: self.state_dir.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::IdentityFile;

    const GOOD: &str = r#"{"ca_address": "a:1", "renew_address": "a:2", "trust_anchor_file": "/t", "join_token_file": "/j",
        "server_name": "tulle-control-plane", "trust_domain": "cluster.local", "key_algorithm": "ec-p256", "state_dir": "/s"}"#;

    #[test]
    fn unknown_fields_and_algorithms_are_refused() {
        assert!(IdentityFile::parse(GOOD).is_ok());
        assert!(IdentityFile::parse(&GOOD.replace("ec-p256", "rsa")).is_err());
        assert!(IdentityFile::parse(&GOOD.replace("ca_address", "ca_adress")).is_err());
    }

    #[test]
    fn a_token_comes_from_one_place() {
        let attested = GOOD.replace(r#""join_token_file": "/j""#, r#""attest_socket": "/s", "workload": "a/b""#);
        assert!(IdentityFile::parse(&attested).unwrap().join_config().is_some());
        for bad in [
            GOOD.replace(r#""join_token_file": "/j""#, r#""attest_socket": "/s""#),
            GOOD.replace(r#""join_token_file": "/j","#, ""),
            GOOD.replace(
                r#""join_token_file": "/j""#,
                r#""join_token_file": "/j", "attest_socket": "/s", "workload": "a/b""#,
            ),
        ] {
            assert!(IdentityFile::parse(&bad).is_err(), "{bad}");
        }
    }
}
