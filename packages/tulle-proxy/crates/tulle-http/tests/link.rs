//! HTTP/2 connections over real sockets: many streams at once, and peers that say nothing.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{LocalSet, spawn_local};
use tulle_http::h1::Limits;
use tulle_http::h2::{Config, H2Stream, Link, Pulse, Rhythm, head};
use tulle_http::side::open_h2;
use tulle_http::{Expect, Framing, Interim, Piece, RequestHead, ResponseHead, Side, Stream, To};

const CONFIG: Config = Config {
    stream_window: 65_535,
    connection_window: 1 << 20,
    max_streams: 200,
    header_list: 61_440,
    extended_connect: true,
};

async fn pipe() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (near, far) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    (near.unwrap(), far.unwrap().0)
}

fn run(future: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    LocalSet::new().block_on(&runtime, future);
}

fn request(path: &str) -> RequestHead {
    let mut request = RequestHead::default();
    request.framing = Framing::Delimited;
    request.set_method(b"POST");
    request.set_path(path.as_bytes());
    request.set_authority(b"shop.example.com");
    request.headers.push(b"cookie", b"a=b");
    request.headers.push(b"cookie", b"c=d");
    request
}

/// Serves every stream by echoing its path and its body.
async fn serve(link: Rc<Link>) {
    while let Some(stream) = poll_fn(|cx| link.poll_accept(cx)).await {
        spawn_local(echo(stream));
    }
}

async fn echo(mut stream: H2Stream) {
    let mut arrived = poll_fn(|cx| Poll::Ready(stream.request(cx))).await.unwrap().head;
    let mut request = RequestHead::default();
    head::request_in(&mut arrived, stream.read_ended(), &mut request).unwrap();
    assert_eq!(request.headers.get(b"cookie"), Some(&b"a=b; c=d"[..]));
    let mut response = ResponseHead { framing: Framing::Delimited, ..ResponseHead::default() };
    response.headers.push(b"x-path", request.path());
    stream.respond(&response, false).unwrap();
    loop {
        let piece = poll_fn(|cx| stream.poll_body(cx)).await.unwrap();
        match piece {
            Piece::Data { data, last } => {
                stream.write(data, last).unwrap();
                poll_fn(|cx| stream.poll_flush(cx)).await.unwrap();
                if last {
                    return;
                }
            }
            Piece::Trailers(_) | Piece::End => {
                stream.end(None).unwrap();
                return poll_fn(|cx| stream.poll_flush(cx)).await.unwrap();
            }
        }
    }
}

/// Sends a body in one direction and reads it in the other at once: either alone would fill the windows.
async fn ask(link: Rc<Link>, path: String, size: usize) {
    let mut side = open_h2(&link, &request(&path)).unwrap();
    side.write(Bytes::from(vec![b'x'; size]), true).unwrap();
    let (limits, mut response, mut answered) = (Limits::default(), ResponseHead::default(), false);
    let expect = Expect { limits: &limits, to: To::Other, interim: Interim::Drop };
    let mut seen = 0;
    poll_fn(|cx| {
        assert!(!matches!(side.poll_flush(cx), Poll::Ready(Err(_))));
        if !answered {
            match side.poll_response(cx, expect, &mut response) {
                Poll::Ready(head) => head.unwrap(),
                Poll::Pending => return Poll::Pending,
            }
            answered = true;
        }
        while let Poll::Ready(piece) = side.poll_body(cx) {
            match piece.unwrap() {
                Piece::Data { data, last } => {
                    seen += data.len();
                    if last {
                        return Poll::Ready(());
                    }
                }
                Piece::Trailers(_) | Piece::End => return Poll::Ready(()),
            }
        }
        Poll::Pending
    })
    .await;
    assert_eq!((response.status, response.headers.get(b"x-path")), (200, Some(path.as_bytes())));
    assert_eq!(seen, size);
    assert!(matches!(side, Side::H2(_)) && !side.was_reset());
}

#[test]
fn a_hundred_streams_share_a_connection() {
    run(async {
        let (near, far) = pipe().await;
        let server = Link::server(Stream::Tcp(far), BytesMut::new(), CONFIG);
        let client = Link::client(Stream::Tcp(near), CONFIG);
        let serving = spawn_local(serve(server));
        let driven = client.clone();
        let driving = spawn_local(async move { poll_fn(|cx| driven.poll_drive(cx)).await });
        let asking: Vec<_> = (0..100)
            .map(|n| spawn_local(ask(client.clone(), format!("/{n}"), 1000 * (n % 7) + 70_000 * (n % 3))))
            .collect();
        for each in asking {
            each.await.unwrap();
        }
        client.retire();
        driving.await.unwrap();
        drop(client);
        serving.await.unwrap();
    });
}

/// Drives a connection with a pulse; returns how long it lived.
async fn lifetime(link: Rc<Link>, rhythm: Rhythm) -> Duration {
    let born = tokio::time::Instant::now();
    let mut pulse = Pulse::new(rhythm, 1);
    poll_fn(|cx| {
        if link.poll_drive(cx).is_ready() {
            return Poll::Ready(());
        }
        pulse.poll(cx, &link);
        Poll::Pending
    })
    .await;
    born.elapsed()
}

#[test]
fn a_peer_that_answers_no_ping_is_given_up() {
    run(async {
        let (near, _silent) = pipe().await;
        let link = Link::client(Stream::Tcp(near), CONFIG);
        let rhythm = Rhythm { interval: Some(Duration::from_secs(10)), timeout: Duration::from_secs(3) };
        let lived = lifetime(link, rhythm).await;
        assert!((Duration::from_secs(13)..Duration::from_millis(14_600)).contains(&lived), "{lived:?}");
    });
}

/// Frames of an unknown type, as large as may be: they cost to read, and nothing else limits them as soon.
fn burden(count: usize) -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    for _ in 0..count {
        bytes.extend_from_slice(b"\0\x40\0\x77\0\0\0\0\0");
        bytes.resize(bytes.len() + 0x4000, 0);
    }
    bytes
}

#[test]
fn a_connection_that_is_always_ready_lets_others_have_their_turn() {
    const FRAMES: usize = 256;
    run(async {
        let (near, far) = pipe().await;
        let server = Link::server(Stream::Tcp(far), BytesMut::new(), CONFIG);
        let attack = std::thread::spawn(move || {
            let near = near.into_std().unwrap();
            near.set_nonblocking(false).unwrap();
            std::io::Write::write_all(&mut &near, &burden(FRAMES)).unwrap();
        });
        let turns = Rc::new(std::cell::Cell::new(0));
        let counted = turns.clone();
        let bystander = spawn_local(async move {
            loop {
                counted.set(counted.get() + 1);
                tokio::task::yield_now().await;
            }
        });
        // It ends with the attacker's side of the connection.
        serve(server).await;
        bystander.abort();
        attack.join().unwrap();
        // Four reads of 64 KiB at most from one turn of the others to their next.
        let least = FRAMES * 0x4000 / (4 * 65_536);
        assert!(turns.get() >= least, "{} turns while {FRAMES} frames were read", turns.get());
    });
}
