//! Sockets in another network namespace (network_namespaces(7)), for `core.v3.SocketAddress.network_namespace_filepath`.
//!
//! A socket belongs for its whole life to the namespace of the thread that made it, and so does what is accepted from
//! it. [`inside`] therefore takes the calling thread there around one closure, and back; other threads stay where they
//! are. What is between must not block for long: it runs on a thread that serves. Costs six system calls, some 20 µs, at
//! bind and at dial, and nothing where no namespace is named.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;

/// The calling thread's own namespace.
const HERE: &str = "/proc/thread-self/ns/net";

/// Runs `make` with the calling thread in the namespace whose file is at `path`.
///
/// # Errors
/// Those of `make`, and when the namespace cannot be entered; they name the path, and what is missing.
///
/// # Aborts
/// When the thread cannot come back: whatever it did then, it would do in the wrong place.
pub fn inside<T>(path: &str, make: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let there = open(path).map_err(|error| explained(path, &error, "cannot be opened"))?;
    let here = open(HERE).map_err(|error| explained(HERE, &error, "cannot be opened"))?;
    enter(&there).map_err(|error| explained(path, &error, refusal(&error)))?;
    let _back = Back(here);
    make()
}

/// Whether sockets can be made in the namespace at `path`.
///
/// # Errors
/// As [`inside`].
pub fn check(path: &str) -> io::Result<()> {
    inside(path, || Ok(()))
}

/// Takes the thread back when dropped, also when what was done between panics.
struct Back(File);

impl Drop for Back {
    fn drop(&mut self) {
        if let Err(error) = enter(&self.0) {
            eprintln!("cannot go back to the own network namespace: {error}");
            std::process::abort();
        }
    }
}

/// Not blocking: a path may also name a pipe.
fn open(path: &str) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)
}

fn enter(namespace: &File) -> io::Result<()> {
    // SAFETY: the descriptor is open for as long as `namespace` is borrowed.
    match unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// What setns(2) means by an error.
fn refusal(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EPERM) => "cannot be entered without CAP_SYS_ADMIN",
        Some(libc::EINVAL) => "is not a network namespace",
        _ => "cannot be entered",
    }
}

fn explained(path: &str, error: &io::Error, what: impl fmt::Display) -> io::Error {
    io::Error::new(error.kind(), format!("the network namespace {path} {what}: {error}"))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use tulle_testkit::netns::Namespace;

    use super::*;

    /// Where nobody listens on the machine.
    const AWAY: &str = "127.77.0.1:0";

    fn here() -> std::path::PathBuf {
        std::fs::read_link(HERE).unwrap()
    }

    #[test]
    fn a_socket_is_where_it_was_made_and_the_thread_is_back() {
        let Some(namespace) = Namespace::or_skip() else { return };
        let before = here();
        let listener = inside(namespace.path(), || TcpListener::bind(AWAY)).unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(here(), before);
        assert_eq!(TcpStream::connect(address).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        inside(namespace.path(), || TcpStream::connect(address)).unwrap();
        assert_eq!(here(), before);
    }

    #[test]
    fn the_thread_is_back_after_errors_and_panics() {
        let Some(namespace) = Namespace::or_skip() else { return };
        let before = here();
        let error = inside(namespace.path(), || Err::<(), _>(io::Error::other("it failed"))).unwrap_err();
        assert_eq!(error.to_string(), "it failed");
        assert_eq!(here(), before);
        let panicked =
            std::panic::catch_unwind(|| inside(namespace.path(), || -> io::Result<()> { panic!("on purpose") }));
        assert!(panicked.is_err());
        assert_eq!(here(), before);
    }

    #[test]
    fn what_is_missing_is_said() {
        let said = |path: &str| check(path).unwrap_err().to_string();
        let missing = said("/nowhere/at all");
        assert!(
            missing.starts_with("the network namespace /nowhere/at all cannot be opened: No such file"),
            "{missing}"
        );
        // Whoever may not enter any is told so before the file is looked at.
        let other = said("/proc/self/ns/uts");
        assert!(other.contains("is not a network namespace") || other.contains("CAP_SYS_ADMIN"), "{other}");
    }
}
