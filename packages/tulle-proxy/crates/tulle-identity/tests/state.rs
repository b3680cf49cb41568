//! What is kept on disk: found again, private, whole or refused; the identity, and sealed files beside it.

use std::os::unix::fs::PermissionsExt;

use rcgen::{CertificateParams, KeyPair};
use tulle_identity::ca::Issued;
use tulle_identity::sealed::{LARGEST, SealedError, SealedFile};
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

const SECRET: &[u8] = b"a configuration with -----BEGIN PRIVATE KEY----- in it";

/// A folder in which `owner` sealed `SECRET` once.
fn sealed(owner: &str) -> (tempfile::TempDir, SealedFile) {
    let directory = tempfile::tempdir().unwrap();
    let file = SealedFile::new(directory.path(), "kept", owner);
    assert!(file.load().unwrap().is_none());
    file.save(SECRET.to_vec()).unwrap();
    (directory, file)
}

#[test]
fn what_was_sealed_is_found_again_and_unreadable_to_others() {
    let (directory, file) = sealed("me");
    assert_eq!(file.load().unwrap().unwrap(), SECRET);
    let (kept, key) = (directory.path().join("kept"), directory.path().join("kept.key"));
    let bytes = std::fs::read(&kept).unwrap();
    assert!(!bytes.windows(7).any(|window| window == b"PRIVATE"));
    for path in [&kept, &key] {
        assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    }
    file.save(SECRET.to_vec()).unwrap();
    assert_ne!(std::fs::read(&kept).unwrap()[68..], bytes[68..], "the same content is sealed differently each time");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(file.load(), Err(SealedError::File(StateError::Exposed(_, 0o644)))));
}

#[test]
fn any_bit_that_flips_is_noticed() {
    let (directory, file) = sealed("me");
    let path = directory.path().join("kept");
    let whole = std::fs::read(&path).unwrap();
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 1 << (at % 8);
        std::fs::write(&path, &damaged).unwrap();
        assert!(file.load().is_err(), "byte {at}");
    }
    std::fs::write(&path, &whole).unwrap();
    assert!(file.load().unwrap().is_some());
}

#[test]
fn any_part_is_refused() {
    let (directory, file) = sealed("me");
    let path = directory.path().join("kept");
    let whole = std::fs::read(&path).unwrap();
    for length in 8..whole.len() {
        std::fs::write(&path, &whole[..length]).unwrap();
        assert!(matches!(file.load(), Err(SealedError::Truncated(..))), "{length} bytes");
    }
    std::fs::write(&path, [&whole[..], b"x"].concat()).unwrap();
    assert!(matches!(file.load(), Err(SealedError::Damaged(_))));
    std::fs::write(&path, b"{}").unwrap();
    assert!(matches!(file.load(), Err(SealedError::Foreign(_))));
}

#[test]
fn a_file_of_another_owner_or_key_is_refused() {
    let (directory, _) = sealed("me");
    let other = SealedFile::new(directory.path(), "kept", "other");
    assert!(matches!(other.load(), Err(SealedError::Owner(_))), "the same key, another owner");
    let (elsewhere, file) = sealed("me");
    std::fs::copy(directory.path().join("kept"), elsewhere.path().join("kept")).unwrap();
    assert!(matches!(file.load(), Err(SealedError::Owner(_))), "the same owner, another key");
    std::fs::remove_file(elsewhere.path().join("kept.key")).unwrap();
    assert!(matches!(file.load(), Err(SealedError::Owner(_))), "no key");
}

#[test]
fn what_is_older_or_of_another_format_is_refused() {
    let (directory, file) = sealed("me");
    let path = directory.path().join("kept");
    let old = std::fs::read(&path).unwrap();
    file.save(b"newer".to_vec()).unwrap();
    let new = std::fs::read(&path).unwrap();
    std::fs::write(&path, &old).unwrap();
    assert!(matches!(file.load(), Err(SealedError::Downgraded(_, 1, 2))));
    let mut format = new.clone();
    format[11] = 0;
    std::fs::write(&path, &format).unwrap();
    assert!(matches!(file.load(), Err(SealedError::Format(_, 0))));
    std::fs::write(&path, &new).unwrap();
    assert_eq!(file.load().unwrap().unwrap(), b"newer");
}

#[test]
fn a_crash_between_the_content_and_its_number_loses_nothing() {
    let (directory, file) = sealed("me");
    let key = std::fs::read(directory.path().join("kept.key")).unwrap();
    file.save(b"newer".to_vec()).unwrap();
    std::fs::write(directory.path().join("kept.key"), key).unwrap();
    assert_eq!(file.load().unwrap().unwrap(), b"newer");
    file.save(b"newest".to_vec()).unwrap();
    assert_eq!(file.load().unwrap().unwrap(), b"newest");
}

#[test]
fn too_much_is_refused_and_what_was_there_stays() {
    let (_directory, file) = sealed("me");
    assert!(matches!(file.save(vec![0; LARGEST + 1]), Err(SealedError::TooLarge(_))));
    assert_eq!(file.load().unwrap().unwrap(), SECRET);
}
