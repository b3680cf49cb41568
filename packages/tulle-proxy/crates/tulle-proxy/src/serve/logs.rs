//! Lines about connections: those of the TCP proxy, and of listeners about all of theirs.

use tulle_config::access_log::{AccessLog, LogFilter, LogFormat};
use tulle_core::ResponseFlags;
use tulle_http::RequestHead;
use tulle_telemetry::TimePoint;

use super::Client;
use crate::exchange::finish;
use crate::exchange::record::{Record, View};
use crate::worker::Worker;

/// Writes a line into each log whose filter takes the connection.
pub fn write<'l>(worker: &Worker, logs: impl Iterator<Item = &'l AccessLog>, view: &View<'_>) {
    let takes = |filter: &LogFilter| finish::takes(filter, worker, view);
    for log in logs.filter(|log| log.filter.as_ref().is_none_or(takes)) {
        worker.logs.line(&log.sink, |out| match &*log.format {
            LogFormat::Text(format) => format.render(view, out),
            LogFormat::Json(format) => format.render(view, out),
        });
    }
}

/// The listener's lines about a connection that ends, in whose place nobody else writes them.
pub fn ended(worker: &Worker, client: &Client, mut record: Record) {
    record.mark(TimePoint::Complete, worker.now());
    let request = RequestHead::default();
    let view = View::new(client, &request, None, &record);
    write(worker, client.listener.access_logs.iter(), &view);
}

/// The listener's lines about a connection that no filter chain takes.
pub fn nobodys(worker: &Worker, client: &Client) {
    if client.listener.access_logs.is_empty() {
        return;
    }
    let mut record = Record::new(worker.now(), worker.clock.wall());
    record.flags.insert(ResponseFlags::NO_ROUTE_FOUND);
    record.details = "filter_chain_not_found".into();
    ended(worker, client, record);
}
