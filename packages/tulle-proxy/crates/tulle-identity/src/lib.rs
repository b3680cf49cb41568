//! Who this process is and who its peers are: certificates, TLS contexts, verification.
//!
//! * [`peer`] reads names out of certificates, [`forwarded`] tells them to upstreams and [`presented`] to logs; [`verify`] checks chains and SPIFFE ids for both directions.
//! * [`material`] resolves configured certificates, keys and trust from files, inline data, secrets and the own identity.
//! * [`contexts`] makes and caches rustls configurations per TLS setting, remade when material rotates.
//! * [`join`] keeps the own identity alive on the control thread: key, CSR, join token, renewal; [`ca`] asks the
//!   authority and [`state`] remembers the identity on disk; [`sealed`] is how other things are kept beside it.
//! * [`attest`] gets a join token where the kernel vouches for this process; [`clock`] forgives a clock that jumps.
//! * [`trust`] is the stream on which the authority pushes what to trust, [`bundle`] what it pushes.

pub mod attest;
pub mod bundle;
pub mod ca;
mod choice;
pub mod clock;
pub mod contexts;
pub mod details;
pub mod forwarded;
pub mod join;
pub mod material;
pub mod peer;
pub mod presented;
pub mod sealed;
pub mod state;
pub mod trust;
pub mod verify;

pub use contexts::TlsContexts;
pub use join::{JoinConfig, keep_identity};
pub use material::{Identity, IdentityCell, MaterialError};
