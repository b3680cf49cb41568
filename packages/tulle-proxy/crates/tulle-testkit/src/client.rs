//! A client that sends bytes as given and reads answers as they come.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longer than anything that is meant to happen: reaching it fails the test.
const PATIENCE: Duration = Duration::from_secs(10);

/// One raw connection.
pub struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// An answer with its body.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// As received, names in any case.
    pub head: String,
    pub body: String,
}

impl Client {
    pub async fn connect(address: SocketAddr) -> io::Result<Client> {
        Ok(Client { stream: TcpStream::connect(address).await?, buffer: Vec::new() })
    }

    /// This end of the connection.
    ///
    /// # Errors
    /// When the socket is gone.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.stream.local_addr()
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref()).await
    }

    /// Reads one answer; its body by Content-Length, chunks left as they are until the last one.
    ///
    /// # Errors
    /// When the connection ends first, or nothing comes for too long.
    pub async fn answer(&mut self) -> io::Result<Answer> {
        let end = self.until(|buffer| find(buffer, b"\r\n\r\n").map(|at| at + 4)).await?;
        let head = String::from_utf8_lossy(&self.buffer.drain(..end).collect::<Vec<_>>()).into_owned();
        let status = head.split(' ').nth(1).and_then(|text| text.parse().ok()).unwrap_or(0);
        let lower = head.to_ascii_lowercase();
        let declared = lower.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next()?.parse().ok());
        let size = match declared {
            Some(n) => self.until(|buffer| (buffer.len() >= n).then_some(n)).await?,
            None if lower.contains("transfer-encoding: chunked") => {
                self.until(|buffer| find(buffer, b"0\r\n\r\n").map(|at| at + 5)).await?
            }
            None => 0,
        };
        let body = String::from_utf8_lossy(&self.buffer.drain(..size).collect::<Vec<_>>()).into_owned();
        Ok(Answer { status, head, body })
    }

    /// Sends and reads one answer.
    pub async fn ask(&mut self, request: &str) -> io::Result<Answer> {
        self.send(request).await?;
        self.answer().await
    }

    /// Reads `n` bytes.
    pub async fn bytes(&mut self, n: usize) -> io::Result<Vec<u8>> {
        self.until(|buffer| (buffer.len() >= n).then_some(n)).await?;
        Ok(self.buffer.drain(..n).collect())
    }

    /// Waits for the peer to close and gives what came before that.
    pub async fn closed(&mut self) -> io::Result<Vec<u8>> {
        let reading = async {
            while self.stream.read_buf(&mut self.buffer).await? > 0 {}
            Ok(std::mem::take(&mut self.buffer))
        };
        tokio::time::timeout(PATIENCE, reading).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    pub async fn finish(&mut self) -> io::Result<()> {
        self.stream.shutdown().await
    }

    async fn until(&mut self, found: impl Fn(&[u8]) -> Option<usize>) -> io::Result<usize> {
        let reading = async {
            loop {
                if let Some(n) = found(&self.buffer) {
                    return Ok(n);
                }
                if self.stream.read_buf(&mut self.buffer).await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
        };
        tokio::time::timeout(PATIENCE, reading).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }
}

fn find(buffer: &[u8], wanted: &[u8]) -> Option<usize> {
    buffer.windows(wanted.len()).position(|w| w == wanted)
}
