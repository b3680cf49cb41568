//! Access-log lines: collected per worker and file, written in batches between requests.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use tulle_config::AccessLogSink;
use tulle_telemetry::LogBuffer;

/// Written at once when this much has come together.
const FLUSH_AT: usize = 64 * 1024;
/// Lines beyond this are dropped: a stuck disk must not eat the memory.
const LIMIT: usize = 1 << 20;
/// A line waits no longer than this.
const LATEST: Duration = Duration::from_millis(200);

struct Log {
    buffer: LogBuffer,
    file: Option<File>,
}

/// The logs of one worker.
#[derive(Default)]
pub struct Logs {
    open: RefCell<HashMap<AccessLogSink, Log>>,
    scheduled: Cell<bool>,
}

impl Logs {
    /// Appends a line to a sink's buffer and sees to its being written soon.
    pub fn line(self: &Rc<Self>, sink: &AccessLogSink, render: impl FnOnce(&mut Vec<u8>)) {
        let full = {
            let mut open = self.open.borrow_mut();
            match open.get_mut(sink) {
                Some(log) => log.buffer.line(render),
                None => {
                    let file = open_sink(sink);
                    if let Err(e) = &file {
                        eprintln!("access log {sink:?}: {e}");
                    }
                    let buffer = LogBuffer::new(FLUSH_AT, LIMIT);
                    open.entry(sink.clone()).or_insert(Log { buffer, file: file.ok() }).buffer.line(render)
                }
            }
        };
        if full {
            self.flush();
        } else if !self.scheduled.replace(true) {
            let logs = self.clone();
            tokio::task::spawn_local(async move {
                tokio::time::sleep(LATEST).await;
                logs.flush();
            });
        }
    }

    /// Writes everything. A sink that fails loses what it was given: telemetry never holds traffic up.
    pub fn flush(&self) {
        self.scheduled.set(false);
        for log in self.open.borrow_mut().values_mut().filter(|log| !log.buffer.is_empty()) {
            let bytes = log.buffer.take(Vec::new());
            if let Some(file) = &mut log.file {
                let _lost = file.write_all(&bytes);
            }
        }
    }
}

fn open_sink(sink: &AccessLogSink) -> io::Result<File> {
    let own = |fd: io::Result<OwnedFd>| fd.map(File::from);
    match sink {
        AccessLogSink::Stdout => own(io::stdout().as_fd().try_clone_to_owned()),
        AccessLogSink::Stderr => own(io::stderr().as_fd().try_clone_to_owned()),
        AccessLogSink::File(path) => File::options().append(true).create(true).open(path),
    }
}
