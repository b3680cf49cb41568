//! An HTTP/1.1 upstream that answers each request by a rule of the test's and remembers every byte it was sent.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What to do with a request whose head (as text) has arrived.
pub enum Reply {
    /// Read the declared body, then write these bytes.
    Bytes(Vec<u8>),
    /// Write these bytes at once, whatever is still to come.
    Early(Vec<u8>),
    /// Write these bytes, then close.
    Last(Vec<u8>),
    /// Write these bytes, then echo everything.
    Echo(Vec<u8>),
    /// Never answer.
    Silence,
}

/// A 200 with this body.
pub fn ok(body: &str) -> Reply {
    Reply::Bytes(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes())
}

type Rule = Arc<dyn Fn(&str) -> Reply + Send + Sync>;

/// The running server.
pub struct Upstream {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Upstream {
    /// Listens on a port of the system's choice until the test's runtime ends.
    pub async fn start(rule: impl Fn(&str) -> Reply + Send + Sync + 'static) -> io::Result<Upstream> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let seen = Arc::<Mutex<Vec<Vec<u8>>>>::default();
        let (rule, all): (Rule, _) = (Arc::new(rule), seen.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let index = {
                    let mut all = lock(&all);
                    all.push(Vec::new());
                    all.len() - 1
                };
                tokio::spawn(serve(stream, rule.clone(), all.clone(), index));
            }
        });
        Ok(Upstream { address, seen })
    }

    /// The bytes received so far, per connection.
    pub fn seen(&self) -> Vec<Vec<u8>> {
        lock(&self.seen).clone()
    }

    /// All bytes received so far, as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.seen().concat()).into_owned()
    }
}

fn lock(seen: &Mutex<Vec<Vec<u8>>>) -> std::sync::MutexGuard<'_, Vec<Vec<u8>>> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An I/O error ends the connection: the test looks at what the proxy made of it.
async fn serve(mut stream: TcpStream, rule: Rule, seen: Arc<Mutex<Vec<Vec<u8>>>>, index: usize) -> Option<()> {
    let mut buffer: Vec<u8> = Vec::new();
    let more = async |stream: &mut TcpStream, buffer: &mut Vec<u8>| -> Option<()> {
        let before = buffer.len();
        let n = stream.read_buf(buffer).await.ok().filter(|n| *n > 0)?;
        lock(&seen)[index].extend_from_slice(&buffer[before..before + n]);
        Some(())
    };
    loop {
        let end = loop {
            match buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                Some(at) => break at + 4,
                None => more(&mut stream, &mut buffer).await?,
            }
        };
        let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
        buffer.drain(..end);
        match rule(&head) {
            Reply::Bytes(answer) => {
                let wanted = length(&head);
                let whole = |buffer: &[u8]| match wanted {
                    Some(n) => buffer.len() >= n,
                    None => buffer.windows(5).any(|w| w == b"0\r\n\r\n"),
                };
                while !whole(&buffer) {
                    more(&mut stream, &mut buffer).await?;
                }
                buffer.drain(..wanted.unwrap_or(buffer.len()));
                stream.write_all(&answer).await.ok()?;
            }
            Reply::Early(answer) => stream.write_all(&answer).await.ok()?,
            Reply::Last(answer) => return stream.write_all(&answer).await.ok(),
            Reply::Echo(answer) => {
                stream.write_all(&answer).await.ok()?;
                loop {
                    if buffer.is_empty() {
                        more(&mut stream, &mut buffer).await?;
                    }
                    let echoed = std::mem::take(&mut buffer);
                    stream.write_all(&echoed).await.ok()?;
                }
            }
            Reply::Silence => loop {
                more(&mut stream, &mut buffer).await?;
            },
        }
    }
}

/// The declared length; `None` for a chunked body.
fn length(head: &str) -> Option<usize> {
    let lower = head.to_ascii_lowercase();
    if lower.contains("transfer-encoding: chunked") {
        return None;
    }
    let value = lower.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
    Some(value.and_then(|text| text.parse().ok()).unwrap_or(0))
}
