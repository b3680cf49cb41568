//! Network namespaces for tests that may make some; the others are told why they do nothing.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::mpsc;

/// A namespace that has `lo` only, up. It ends with the value and the sockets in it.
pub struct Namespace {
    path: String,
    _kept: File,
}

impl Namespace {
    /// A new one; `None`, with a line that says why, where none may be made.
    pub fn or_skip() -> Option<Namespace> {
        match Namespace::make() {
            Ok(made) => Some(made),
            Err(error) => {
                eprintln!("skipped: no network namespace can be made here: {error}");
                None
            }
        }
    }

    /// A file by which it can be entered.
    pub fn path(&self) -> &str {
        &self.path
    }

    fn make() -> io::Result<Namespace> {
        let (tell, told) = mpsc::channel();
        // A thread of its own, which ends there: the test's stays where it is.
        std::thread::spawn(move || tell.send(unshare()));
        let kept = told.recv().map_err(io::Error::other)??;
        Ok(Namespace { path: format!("/proc/self/fd/{}", kept.as_raw_fd()), _kept: kept })
    }
}

fn unshare() -> io::Result<File> {
    // SAFETY: without pointers; only the calling thread is concerned.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
        return Err(io::Error::last_os_error());
    }
    bring_lo_up()?;
    File::open("/proc/thread-self/ns/net")
}

fn bring_lo_up() -> io::Result<()> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
    // SAFETY: `ifreq` is plain data of which zeros are a value; the request outlives the call.
    let failed = unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name[0] = b'l' as libc::c_char;
        request.ifr_name[1] = b'o' as libc::c_char;
        request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
        libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw mut request)
    };
    if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
