//! Calls of our own to gRPC services, one message each way, under their cluster's limits.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use tulle_config::GrpcService;
use tulle_http::{Framing, Headers, Known, Piece, RequestHead, Version};

use super::mirror::{self, Missed};
use crate::worker::Worker;

/// Most of an answer that is read, in bytes.
const LARGEST_ANSWER: usize = 1 << 20;

/// The answer's bytes, of a call that ended with the gRPC status OK.
pub async fn call(worker: &Rc<Worker>, service: &GrpcService, method: &str, message: Bytes) -> Result<Vec<u8>, Missed> {
    let head = head(service, method);
    let body = vec![Piece::Data { data: message, last: true }];
    let server = (&*service.cluster, service.timeout);
    let answered = mirror::ask_cluster(worker, server, (&head, body), LARGEST_ANSWER).await?;
    let status = |fields: &Headers| fields.known(Known::GrpcStatus).map(|status| status == b"0");
    let fine = status(&answered.head.headers).or(answered.trailers.as_deref().and_then(status));
    if answered.head.status == 200 && fine == Some(true) { Ok(answered.body) } else { Err(Missed::Unanswered) }
}

fn head(service: &GrpcService, method: &str) -> RequestHead {
    let mut head = RequestHead::default();
    head.version = Version::Http2;
    head.set_method(b"POST");
    head.set_path(method.as_bytes());
    head.set_authority(service.authority.as_bytes());
    head.headers.push(b"content-type", b"application/grpc");
    head.headers.push(b"te", b"trailers");
    if let Some(timeout) = service.timeout {
        let milliseconds = timeout.max(Duration::from_millis(1)).as_millis();
        head.headers.push(b"grpc-timeout", format!("{milliseconds}m").as_bytes());
    }
    for (name, value) in &service.metadata {
        head.headers.push(name.as_bytes(), value.as_bytes());
    }
    head.framing = Framing::Delimited;
    head
}
