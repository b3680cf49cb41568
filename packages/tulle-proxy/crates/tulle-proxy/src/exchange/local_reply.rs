//! The proxy's own answers, changed as the connection manager's `local_reply_config` says (Envoy's `LocalReply`).

use std::borrow::Cow;
use std::time::Duration;

use tulle_config::LogFormat;
use tulle_config::local_reply::{BodyFormat, LocalReply};
use tulle_core::UnixNanos;
use tulle_core::metadata::Metadata;
use tulle_route::Selected;
use tulle_telemetry::{Field, HeadPart, LogView, Owner, TimePoint, Value};

use super::record::View;
use super::reply::Reply;
use super::{Exchange, finish, mutate_response};

/// Writes the head of `reply` with everything that the route and the configuration say of it, and its body into it.
pub fn write(x: &mut Exchange<'_>, config: &LocalReply, selected: Option<&Selected<'_>>, reply: &mut Reply) {
    // What filters and formats may ask about.
    x.record.flags.insert(reply.flags);
    x.record.details = reply.details.clone();
    x.record.status = reply.status;
    let mapper = config.mappers.iter().find(|mapper| finish::wanted(&mapper.filter, x));
    reply.status = mapper.and_then(|mapper| mapper.status).unwrap_or(reply.status);
    reply.write_head(&x.heads.request, &mut x.heads.response);
    if let Some(selected) = selected {
        mutate_response(x, selected);
    }
    let heads = &mut *x.heads;
    let own_type = heads.response.headers.get(b"content-type").map(<[u8]>::to_vec);
    if let Some(mapper) = mapper {
        let view = View::new(x.client, &heads.request, None, &x.record);
        mapper.headers.response().apply(&view, &mut heads.response.headers, &mut heads.scratch);
    }
    if heads.request.is_grpc() {
        heads.response.headers.set(b"content-type", b"application/grpc");
    }
    let typed = heads.response.headers.get(b"content-type").map(<[u8]>::to_vec) != own_type;
    x.record.status = reply.status;
    let text = match mapper.and_then(|mapper| mapper.body.as_deref()) {
        Some(body) => Cow::Owned(body.to_vec()),
        None => reply.body.clone(),
    };
    let format = mapper.and_then(|mapper| mapper.format.as_ref()).or(config.format.as_ref());
    let body = format.map_or_else(|| text.to_vec(), |format| formatted(x, format, &text));
    let changed = *body != *reply.body;
    reply.body = Cow::Owned(body);
    if changed {
        let kind = format.map_or("text/plain", |format| &*format.content_type);
        reply.declare_body((!typed).then_some(kind), &x.heads.request, &mut x.heads.response);
    }
}

fn formatted(x: &Exchange<'_>, format: &BodyFormat, text: &[u8]) -> Vec<u8> {
    let response = Some(&x.heads.response);
    let exchange = View::new(x.client, &x.heads.request, response, &x.record);
    let view = Worded { exchange, text };
    let mut out = Vec::new();
    match &format.format {
        LogFormat::Text(text) => text.render_body(&view, format.omit_absent, &mut out),
        LogFormat::Json(json) => json.render(&view, &mut out),
    }
    out
}

/// An exchange with the text of its answer.
struct Worded<'a> {
    exchange: View<'a>,
    text: &'a [u8],
}

impl LogView for Worded<'_> {
    fn header(&self, part: HeadPart, name: &str) -> Option<&[u8]> {
        self.exchange.header(part, name)
    }

    fn field(&self, field: Field) -> Value<'_> {
        match field {
            Field::LocalReplyBody => Value::Bytes(self.text),
            other => self.exchange.field(other),
        }
    }

    fn metadata(&self, owner: Owner) -> Option<&Metadata> {
        self.exchange.metadata(owner)
    }

    fn start_time(&self) -> UnixNanos {
        self.exchange.start_time()
    }

    fn elapsed(&self, point: TimePoint) -> Option<Duration> {
        self.exchange.elapsed(point)
    }
}
