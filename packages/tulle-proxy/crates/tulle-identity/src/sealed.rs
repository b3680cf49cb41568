//! A file that only the process which wrote it can read: encrypted, whole or refused, never older than the last one.
//!
//! The key lies beside it in a file of its own (mode 0600), made at random and never changed; decision 0010 says why it
//! is not the identity's. Each content is sealed with AES-256-GCM under a key of its own: HKDF (RFC 5869, SHA-256) of
//! that key, a fresh salt, and the owner's name. The head, which is authenticated too, numbers the contents; the number
//! below which none is accepted is kept with the key.

use std::path::{Path, PathBuf};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use aws_lc_rs::rand;

use crate::state::{self, StateError};

/// Larger contents are neither written nor read: the mesh's largest configurations are a tenth of it.
pub const LARGEST: usize = 64 << 20;

const MAGIC: &[u8; 8] = b"TULLESLD";
const FORMAT: u32 = 1;
const KEY_LEN: usize = 32;
const ID_LEN: usize = 8;
const SALT_LEN: usize = 32;
/// Magic, format, number, owner, length of the content, salt.
const HEAD_LEN: usize = MAGIC.len() + 4 + 8 + ID_LEN + 8 + SALT_LEN;

/// Why a sealed file cannot be read or written. Nothing of its content is told.
#[derive(Debug, thiserror::Error)]
pub enum SealedError {
    #[error(transparent)]
    File(#[from] StateError),
    #[error("{0} is no sealed file")]
    Foreign(PathBuf),
    #[error("{0} has format {1}; this version reads format {known} only", known = FORMAT)]
    Format(PathBuf, u32),
    #[error("{0} is cut short: {1} of {2} bytes")]
    Truncated(PathBuf, usize, usize),
    #[error("{0} belongs to another proxy, or its key was replaced")]
    Owner(PathBuf),
    #[error("{0} is older (number {1}) than one that was in force after it (number {2})")]
    Downgraded(PathBuf, u64, u64),
    #[error("{0} is damaged")]
    Damaged(PathBuf),
    #[error("{0} would be larger than {most} bytes", most = LARGEST)]
    TooLarge(PathBuf),
    #[error("no randomness to be had")]
    Randomness,
}

/// One sealed file. Not for use by two processes or threads at once.
#[derive(Clone, Debug)]
pub struct SealedFile {
    file: PathBuf,
    directory: PathBuf,
    name: String,
    owner: String,
}

/// The key, and the number of the last content known to have been written whole.
struct Key {
    secret: [u8; KEY_LEN],
    floor: u64,
}

/// The authenticated head of a file.
struct Head<'a> {
    bytes: &'a [u8],
    number: u64,
    owner: &'a [u8],
    salt: &'a [u8],
}

impl SealedFile {
    /// The file `name` in `directory`; only who gives the same `owner` can read what it holds.
    pub fn new(directory: &Path, name: &str, owner: &str) -> SealedFile {
        let (file, name, owner) = (directory.join(name), name.to_owned(), owner.to_owned());
        SealedFile { file, directory: directory.to_owned(), name, owner }
    }

    /// The content; `None` when there is no file.
    ///
    /// # Errors
    /// [`SealedError`]: the file then is of no use.
    pub fn load(&self) -> Result<Option<Vec<u8>>, SealedError> {
        let Some(sealed) = state::read_private(&self.file)? else { return Ok(None) };
        let head = self.head(&sealed)?;
        let key = self.key()?.ok_or_else(|| SealedError::Owner(self.file.clone()))?;
        if head.owner != self.owner_id(&key) {
            return Err(SealedError::Owner(self.file.clone()));
        }
        let mut content = sealed[HEAD_LEN..].to_vec();
        let opened = self.cipher(&key, head.salt).open_in_place(nonce(), Aad::from(head.bytes), &mut content);
        let length = opened.map_err(|_| SealedError::Damaged(self.file.clone()))?.len();
        if head.number < key.floor {
            return Err(SealedError::Downgraded(self.file.clone(), head.number, key.floor));
        }
        content.truncate(length);
        Ok(Some(content))
    }

    /// Replaces the content atomically. A crash leaves this one or the one before, either readable.
    ///
    /// # Errors
    /// Those of the file system; when `content` is too large; when there is no randomness.
    pub fn save(&self, mut content: Vec<u8>) -> Result<(), SealedError> {
        if content.len() > LARGEST {
            return Err(SealedError::TooLarge(self.file.clone()));
        }
        state::make_private(&self.directory)?;
        let mut key = match self.key()? {
            Some(key) => key,
            None => self.new_key()?,
        };
        let number = key.floor + 1;
        let mut sealed = Vec::with_capacity(HEAD_LEN + content.len() + AES_256_GCM.tag_len());
        sealed.extend_from_slice(MAGIC);
        sealed.extend_from_slice(&FORMAT.to_be_bytes());
        sealed.extend_from_slice(&number.to_be_bytes());
        sealed.extend_from_slice(&self.owner_id(&key));
        sealed.extend_from_slice(&(content.len() as u64).to_be_bytes());
        sealed.extend_from_slice(&random::<SALT_LEN>()?);
        let cipher = self.cipher(&key, &sealed[HEAD_LEN - SALT_LEN..]);
        let done = cipher.seal_in_place_append_tag(nonce(), Aad::from(&sealed[..]), &mut content);
        done.map_err(|_| SealedError::TooLarge(self.file.clone()))?;
        sealed.append(&mut content);
        state::write(&self.directory, &self.name, &sealed)?;
        // Only now: a crash in between must not make the one content there is one that is too old.
        key.floor = number;
        self.write_key(&key)
    }

    fn head<'a>(&self, sealed: &'a [u8]) -> Result<Head<'a>, SealedError> {
        let start = &sealed[..sealed.len().min(MAGIC.len())];
        if start != MAGIC {
            return Err(SealedError::Foreign(self.file.clone()));
        }
        let truncated = |wanted| SealedError::Truncated(self.file.clone(), sealed.len(), wanted);
        let bytes = sealed.get(..HEAD_LEN).ok_or_else(|| truncated(HEAD_LEN))?;
        let mut rest = &bytes[MAGIC.len()..];
        let mut take = |length| {
            let (field, after) = rest.split_at(length);
            rest = after;
            field
        };
        let (format, number, owner) = (take(4), take(8), take(ID_LEN));
        let (length, salt) = (take(8), take(SALT_LEN));
        let format = u32::from_be_bytes(format.try_into().unwrap_or_default());
        if format != FORMAT {
            return Err(SealedError::Format(self.file.clone(), format));
        }
        let length = usize::try_from(u64::from_be_bytes(length.try_into().unwrap_or_default())).unwrap_or(usize::MAX);
        if length > LARGEST {
            return Err(SealedError::Damaged(self.file.clone()));
        }
        let whole = HEAD_LEN + length + AES_256_GCM.tag_len();
        match sealed.len() {
            short if short < whole => Err(truncated(whole)),
            long if long > whole => Err(SealedError::Damaged(self.file.clone())),
            _ => Ok(Head { bytes, number: u64::from_be_bytes(number.try_into().unwrap_or_default()), owner, salt }),
        }
    }

    fn key_name(&self) -> String {
        format!("{}.key", self.name)
    }

    fn key(&self) -> Result<Option<Key>, SealedError> {
        let path = self.directory.join(self.key_name());
        let Some(bytes) = state::read_private(&path)? else { return Ok(None) };
        let parts =
            bytes.split_first_chunk::<KEY_LEN>().and_then(|(secret, floor)| Some((*secret, floor.try_into().ok()?)));
        let (secret, floor) = parts.ok_or(SealedError::Damaged(path))?;
        Ok(Some(Key { secret, floor: u64::from_be_bytes(floor) }))
    }

    fn new_key(&self) -> Result<Key, SealedError> {
        let key = Key { secret: random()?, floor: 0 };
        self.write_key(&key)?;
        Ok(key)
    }

    fn write_key(&self, key: &Key) -> Result<(), SealedError> {
        let bytes = [&key.secret[..], &key.floor.to_be_bytes()].concat();
        Ok(state::write(&self.directory, &self.key_name(), &bytes)?)
    }

    /// The key of one content: it seals nothing else, so its nonce may be constant.
    fn cipher(&self, key: &Key, salt: &[u8]) -> LessSafeKey {
        let secret = Salt::new(HKDF_SHA256, salt).extract(&key.secret);
        let info: [&[u8]; 2] = [b"tulle-proxy sealed file 1, content of ", self.owner.as_bytes()];
        let made = secret.expand(&info, &AES_256_GCM).map(UnboundKey::from);
        LessSafeKey::new(made.expect("HKDF gives as many bytes as this cipher's key has"))
    }

    /// Tells keys and owners apart without telling anything about them.
    fn owner_id(&self, key: &Key) -> [u8; ID_LEN] {
        let secret = Salt::new(HKDF_SHA256, &[]).extract(&key.secret);
        let info: [&[u8]; 2] = [b"tulle-proxy sealed file 1, owner ", self.owner.as_bytes()];
        let mut whole = [0; 32];
        let made = secret.expand(&info, HKDF_SHA256).and_then(|okm| okm.fill(&mut whole));
        made.expect("HKDF gives as many bytes as its hash has");
        let mut id = [0; ID_LEN];
        id.copy_from_slice(&whole[..ID_LEN]);
        id
    }
}

fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

fn random<const N: usize>() -> Result<[u8; N], SealedError> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).map_err(|_| SealedError::Randomness)?;
    Ok(bytes)
}
