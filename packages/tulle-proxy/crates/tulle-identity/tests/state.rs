//! The identity on disk: kept, found again, refused when others could read the key.

use std::os::unix::fs::PermissionsExt;

use rcgen::{CertificateParams, KeyPair};
use tulle_identity::ca::Issued;
use tulle_identity::state::{self, Credential, StateError};

fn credential() -> Credential {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::default().self_signed(&key).unwrap().pem();
    Credential {
        issued: Issued { chain: certificate.clone(), roots: certificate.clone() },
        revoked: String::new(),
        key: key.serialize_pem(),
        federated: vec![("other.example".to_owned(), certificate.clone())],
        obtained: 7,
    }
}

#[test]
fn what_was_saved_is_found_again_and_private() {
    let base = tempfile::tempdir().unwrap();
    let directory = base.path().join("identity");
    assert_eq!(state::load(&directory).unwrap(), None);
    let kept = credential();
    state::save(&directory, &kept).unwrap();
    assert_eq!(state::load(&directory).unwrap(), Some(kept.clone()));
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&directory), mode(&directory.join("identity.json"))), (0o700, 0o600));
    assert!(!format!("{kept:?}").contains("PRIVATE"));
    kept.parse().unwrap();
}

#[test]
fn a_key_open_to_others_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    state::save(directory.path(), &credential()).unwrap();
    let key = directory.path().join("identity.json");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(state::load(directory.path()), Err(StateError::Exposed(_, 0o640))));
}

#[test]
fn damage_is_named() {
    let mut damaged = credential();
    damaged.issued.chain = "nothing".into();
    assert!(matches!(damaged.parse(), Err(StateError::Damaged("certificate"))));
}

#[test]
fn a_crash_while_saving_leaves_the_identity_before() {
    let directory = tempfile::tempdir().unwrap();
    let kept = credential();
    state::save(directory.path(), &kept).unwrap();
    // What a process that is killed in the middle of writing leaves behind.
    std::fs::write(directory.path().join(".identity.json.new"), "{\"issued\": {\"chain\"").unwrap();
    assert_eq!(state::load(directory.path()).unwrap(), Some(kept));
    let next = credential();
    state::save(directory.path(), &next).unwrap();
    assert_eq!(state::load(directory.path()).unwrap(), Some(next));
}
