//! Gets a join token from the control plane on the same machine, which asks the kernel whose process this is.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

const TIMEOUT: Duration = Duration::from_secs(10);
/// More than any token has.
const LONGEST: u64 = 4096;

/// Where to ask, and for which workload (`NAMESPACE/NAME`).
#[derive(Clone, Debug)]
pub struct Attestation {
    pub socket: PathBuf,
    pub workload: String,
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum AttestError {
    #[error("cannot ask at {0}: {1}")]
    Io(PathBuf, io::Error),
    #[error("{0} did not answer in time")]
    Late(PathBuf),
    #[error("the control plane does not take this process for {workload}: {reason}")]
    Refused { workload: String, reason: String },
}

impl Attestation {
    /// A one-time token.
    ///
    /// # Errors
    /// [`AttestError`]; asking again may help.
    pub async fn token(&self) -> Result<String, AttestError> {
        let asked = tokio::time::timeout(TIMEOUT, ask(&self.socket, &self.workload)).await;
        let answer = asked.map_err(|_| AttestError::Late(self.socket.clone()))?;
        let answer = answer.map_err(|error| AttestError::Io(self.socket.clone(), error))?;
        match answer.trim_end().split_once(' ') {
            Some(("token", token)) => Ok(token.to_owned()),
            Some(("refused", reason)) => {
                Err(AttestError::Refused { workload: self.workload.clone(), reason: reason.to_owned() })
            }
            _ => Err(AttestError::Io(self.socket.clone(), io::Error::other("the answer is none"))),
        }
    }
}

async fn ask(socket: &Path, workload: &str) -> io::Result<String> {
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(format!("{workload}\n").as_bytes()).await?;
    let mut answer = String::new();
    BufReader::new(stream.take(LONGEST)).read_line(&mut answer).await?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixListener;

    use super::*;

    async fn answered(answer: &'static str) -> Result<String, AttestError> {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("attest.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = [0; 11];
            stream.read_exact(&mut asked).await.unwrap();
            assert_eq!(&asked, b"shop/front\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
        };
        let asks = Attestation { socket, workload: "shop/front".to_owned() };
        tokio::join!(asks.token(), serve).0
    }

    #[tokio::test]
    async fn an_answer_is_a_token_or_a_reason() {
        assert_eq!(answered("token abc\n").await.unwrap(), "abc");
        let refused = answered("refused user 7 is nobody here\n").await.unwrap_err();
        assert!(refused.to_string().ends_with("shop/front: user 7 is nobody here"), "{refused}");
        assert!(matches!(answered("").await, Err(AttestError::Io(..))));
    }
}
