//! The engine against another implementation, the `h2` crate, in both roles.

mod common;

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use common::{CONFIG, List, waker};
use proptest::prelude::*;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tulle_h2::{Body, Engine, Key, Reason, Scheme};

/// An engine on one end of a pipe; every poll moves what can be moved.
struct Wired {
    engine: Engine<List>,
    pipe: DuplexStream,
}

impl Wired {
    fn turn(&mut self, cx: &mut Context<'_>) {
        loop {
            while !self.engine.output().is_empty() {
                match Pin::new(&mut self.pipe).poll_write(cx, self.engine.output()) {
                    Poll::Ready(Ok(n)) => self.engine.advance(n),
                    Poll::Ready(Err(_)) => return self.engine.close(),
                    Poll::Pending => break,
                }
            }
            let mut space = [0; 1000];
            let mut buf = ReadBuf::new(&mut space);
            match Pin::new(&mut self.pipe).poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) if !buf.filled().is_empty() => self.engine.receive(buf.filled(), || 0),
                Poll::Ready(_) => return self.engine.close(),
                Poll::Pending => return,
            }
        }
    }

    /// Reads a whole message's body.
    async fn body(&mut self, key: Key) -> (Vec<u8>, Option<List>) {
        let mut all = Vec::new();
        poll_fn(|cx| {
            loop {
                self.turn(cx);
                match self.engine.read(key, cx.waker()) {
                    Body::Data { data, .. } => all.extend_from_slice(&data),
                    Body::Trailers(list) => return Poll::Ready((std::mem::take(&mut all), Some(list))),
                    Body::End => return Poll::Ready((std::mem::take(&mut all), None)),
                    Body::Wait => return Poll::Pending,
                    Body::Gone(gone) => panic!("{gone:?}"),
                }
            }
        })
        .await
    }

    async fn send(&mut self, key: Key, mut data: Bytes) {
        poll_fn(|cx| {
            self.turn(cx);
            self.engine.send(key, &mut data, true, cx.waker()).unwrap();
            self.turn(cx);
            if data.is_empty() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

async fn theirs(mut body: h2::RecvStream) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(data) = body.data().await {
        let data = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        all.extend_from_slice(&data);
    }
    all
}

async fn send_theirs(stream: &mut h2::SendStream<Bytes>, mut data: Bytes) {
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let room = poll_fn(|cx| stream.poll_capacity(cx)).await.unwrap().unwrap();
        let part = data.split_to(room.min(data.len()));
        stream.send_data(part, false).unwrap();
    }
    let mut trailers = http::HeaderMap::new();
    trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
    stream.send_trailers(trailers).unwrap();
}

fn run(future: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, future);
}

fn bytes(size: usize) -> Bytes {
    (0..size).map(|n| (n * 7) as u8).collect::<Vec<u8>>().into()
}

/// Our server is asked by their client, `asks` times on one connection.
async fn serve(asks: usize, up: usize, down: usize) {
    let (ours, their_pipe) = tokio::io::duplex(3000);
    let mut wired = Wired { engine: Engine::server(CONFIG), pipe: ours };
    let (mut send, connection) = h2::client::handshake(their_pipe).await.unwrap();
    tokio::task::spawn_local(async move { connection.await.unwrap() });
    let asking = tokio::task::spawn_local(async move {
        for n in 0..asks {
            let mut request = http::Request::post(format!("http://shop.example.com/a/{n}?x=y"));
            for (name, value) in [("x-request-id", n.to_string()), ("user-agent", "test".to_owned())] {
                request = request.header(name, value);
            }
            poll_fn(|cx| send.poll_ready(cx)).await.unwrap();
            let (response, mut body) = send.send_request(request.body(()).unwrap(), false).unwrap();
            send_theirs(&mut body, bytes(up)).await;
            let response = response.await.unwrap();
            assert_eq!(response.headers()["x-answer"], n.to_string().as_str());
            assert_eq!(theirs(response.into_body()).await, bytes(down));
        }
    });
    for n in 0..asks {
        let key = poll_fn(|cx| {
            wired.turn(cx);
            wired.engine.accept().map_or(Poll::Pending, Poll::Ready)
        })
        .await;
        let (head, fault, _) = wired.engine.take_head(key, &waker()).unwrap().unwrap();
        assert_eq!((head.get(":path"), fault), (Some(format!("/a/{n}?x=y").as_str()), None));
        let (body, trailers) = wired.body(key).await;
        assert_eq!(body, bytes(up));
        assert_eq!(trailers.unwrap().get("grpc-status"), Some("0"));
        let answer = n.to_string();
        let head = |block: &mut tulle_h2::BlockWriter<'_>| {
            block.status(200);
            block.field(b"x-answer", answer.as_bytes());
            block.field(b"server", b"tulle");
        };
        wired.engine.respond(key, false, head).unwrap();
        wired.send(key, bytes(down)).await;
        wired.engine.release(key);
    }
    let mut asking = asking;
    poll_fn(|cx| {
        wired.turn(cx);
        Pin::new(&mut asking).poll(cx)
    })
    .await
    .unwrap();
    assert_eq!(wired.engine.failed(), None);
}

/// Our client asks their server.
async fn ask(asks: usize, up: usize, down: usize) {
    let (ours, their_pipe) = tokio::io::duplex(3000);
    let mut wired = Wired { engine: Engine::client(CONFIG), pipe: ours };
    tokio::task::spawn_local(async move {
        let mut server = h2::server::handshake(their_pipe).await.unwrap();
        while let Some(accepted) = server.accept().await {
            let Ok((request, mut respond)) = accepted else { return };
            tokio::task::spawn_local(async move {
                let path = request.uri().path().to_owned();
                assert_eq!(theirs(request.into_body()).await.len(), up);
                let response = http::Response::builder().status(201).header("x-path", path).body(()).unwrap();
                let mut body = respond.send_response(response, false).unwrap();
                send_theirs(&mut body, bytes(down)).await;
            });
        }
    });
    for n in 0..asks {
        let path = format!("/b/{n}");
        let head = |block: &mut tulle_h2::BlockWriter<'_>| {
            block.method(b"POST");
            block.scheme(Scheme::Http);
            block.path(path.as_bytes());
            block.field(b":authority", b"shop.example.com");
            block.field(b"authorization", b"Bearer secret");
            block.field(b"x-long", &[b'l'; 20_000]);
        };
        let key = wired.engine.open(false, false, head).unwrap();
        wired.send(key, bytes(up)).await;
        let (head, ..) = poll_fn(|cx| {
            wired.turn(cx);
            wired.engine.take_head(key, cx.waker()).map_or(Poll::Pending, Poll::Ready)
        })
        .await
        .unwrap();
        assert_eq!((head.get(":status"), head.get("x-path")), (Some("201"), Some(path.as_str())));
        let (body, trailers) = wired.body(key).await;
        assert_eq!(body, bytes(down));
        assert_eq!(trailers.unwrap().get("grpc-status"), Some("0"));
        wired.engine.release(key);
    }
    wired.engine.abandon(Reason::NO_ERROR);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn their_client_and_our_server(asks in 1usize..20, up in 0usize..200_000, down in 0usize..200_000) {
        run(serve(asks, up, down));
    }

    #[test]
    fn our_client_and_their_server(asks in 1usize..20, up in 0usize..200_000, down in 0usize..200_000) {
        run(ask(asks, up, down));
    }
}
