//! Listening sockets and the accept loop's care for running out of descriptors.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::time::Duration;

use socket2::{Domain, Protocol, SockFilter, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tulle_config::listener::{SocketOption, SocketState};

/// How long accepting rests after the process ran out of descriptors or memory: long enough not to spin, short
/// enough that a freed descriptor is used at once by human measure.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);

/// Binds a non-blocking listening socket. `share_port` sets SO_REUSEPORT so that every worker has a socket of its own
/// and the kernel spreads connections over them.
///
/// The socket is of the network namespace at `namespace`, where that names one, and with it all that it accepts.
///
/// # Errors
/// Those of socket(2), bind(2) and listen(2), unchanged; why the namespace cannot be entered.
pub fn bind(
    at: (SocketAddr, Option<&str>),
    share_port: SharePort,
    backlog: u32,
    options: &[SocketOption],
) -> io::Result<TcpListener> {
    let (address, namespace) = at;
    let make = || listening(address, share_port, backlog, options);
    let socket = match namespace {
        Some(path) => tulle_netns::inside(path, make)?,
        None => make()?,
    };
    TcpListener::from_std(socket.into())
}

fn listening(address: SocketAddr, share_port: SharePort, backlog: u32, options: &[SocketOption]) -> io::Result<Socket> {
    let apply = |socket: &Socket, state| {
        options.iter().filter(|option| option.when == state).try_for_each(|option| set(socket, option))
    };
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if share_port == SharePort::Yes {
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    // Accepted sockets inherit the option: one system call here instead of one per connection.
    socket.set_tcp_nodelay(true)?;
    apply(&socket, SocketState::Prebind)?;
    socket.bind(&address.into())?;
    apply(&socket, SocketState::Bound)?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    apply(&socket, SocketState::Listening)?;
    Ok(socket)
}

fn set(socket: &Socket, option: &SocketOption) -> io::Result<()> {
    let length = libc::socklen_t::try_from(option.value.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the pointer and the length are those of one live buffer, which the kernel only reads.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), option.level, option.name, option.value.as_ptr().cast(), length)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether other sockets may listen on the same address (SO_REUSEPORT).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SharePort {
    Yes,
    No,
}

/// The next connection. Failures of single connections are passed over; when descriptors or memory are exhausted,
/// accepting rests for a moment instead of spinning.
pub async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) if is_exhaustion(&error) => tokio::time::sleep(EXHAUSTED_PAUSE).await,
            Err(_) => {}
        }
    }
}

/// Every connection that the kernel has already queued, at most `limit`; the socket is closed afterwards. The runtime
/// is not asked: it knows only what its reactor saw, which may lag behind the queue.
pub fn accept_queued(listener: TcpListener, limit: u32) -> Vec<(TcpStream, SocketAddr)> {
    let Ok(listener) = listener.into_std() else {
        return Vec::new();
    };
    // Without this a connection may be queued between the last accept and the close, and would be reset. Where filters
    // are not allowed that window of microseconds stays.
    let _ = SockRef::from(&listener).attach_filter(&drop_new_connections());
    let next = || {
        let (stream, peer) = listener.accept().ok()?;
        stream.set_nonblocking(true).ok()?;
        Some((TcpStream::from_std(stream).ok()?, peer))
    };
    std::iter::from_fn(next).take(limit as usize).collect()
}

/// A classic BPF program over TCP headers: segments with SYN are dropped, others pass. A client that tries now sends its
/// SYN again a second later and finds the port closed, or another socket on it.
fn drop_new_connections() -> [SockFilter; 4] {
    const FLAGS_AT: u32 = 13;
    const SYN: u32 = 0x02;
    let load = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
    let test = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
    let give = (libc::BPF_RET | libc::BPF_K) as u16;
    [
        SockFilter::new(load, 0, 0, FLAGS_AT),
        SockFilter::new(test, 0, 1, SYN),
        SockFilter::new(give, 0, 0, 0),
        SockFilter::new(give, 0, 0, u32::MAX),
    ]
}

fn is_exhaustion(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn several_sockets_share_a_port_and_accepted_ones_have_nodelay() {
        let first = bind(("127.0.0.1:0".parse().unwrap(), None), SharePort::Yes, 16, &[]).unwrap();
        let address = first.local_addr().unwrap();
        let second = bind((address, None), SharePort::Yes, 16, &[]).unwrap();
        let client = TcpStream::connect(address).await.unwrap();
        let (stream, peer) = tokio::select! {
            accepted = accept(&first) => accepted,
            accepted = accept(&second) => accepted,
        };
        assert_eq!(peer, client.local_addr().unwrap());
        assert!(stream.nodelay().unwrap());
    }

    #[tokio::test]
    async fn options_are_set_when_they_are_due_and_inherited() {
        let option =
            |level, name, value: i32, when| SocketOption { level, name, value: value.to_ne_bytes().into(), when };
        let options = [
            option(libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1, SocketState::Prebind),
            option(libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, 77, SocketState::Bound),
            option(libc::IPPROTO_TCP, libc::TCP_KEEPCNT, 5, SocketState::Listening),
        ];
        let listener = bind(("127.0.0.1:0".parse().unwrap(), None), SharePort::No, 16, &options).unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = accept(&listener).await;
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().unwrap());
        assert_eq!((socket.tcp_keepalive_time().unwrap().as_secs(), socket.tcp_keepalive_retries().unwrap()), (77, 5));
        let unknown = [option(libc::SOL_SOCKET, 9999, 1, SocketState::Prebind)];
        assert!(bind(("127.0.0.1:0".parse().unwrap(), None), SharePort::No, 16, &unknown).is_err());
    }

    #[tokio::test]
    async fn an_exclusive_port_is_refused_twice() {
        let first = bind(("127.0.0.1:0".parse().unwrap(), None), SharePort::No, 16, &[]).unwrap();
        let address = first.local_addr().unwrap();
        assert_eq!(bind((address, None), SharePort::No, 16, &[]).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
}
