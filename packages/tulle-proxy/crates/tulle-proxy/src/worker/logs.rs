//! Access-log lines: collected per worker and file, written in batches between requests.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tulle_config::AccessLogSink;
use tulle_telemetry::LogBuffer;

/// Written at once when this much has come together.
const FLUSH_AT: usize = 32 * 1024;
/// Lines beyond this are dropped: a stuck disk must not eat the memory.
const LIMIT: usize = 1 << 20;
/// A line waits no longer than this.
const LATEST: Duration = Duration::from_millis(200);

struct Log {
    sink: AccessLogSink,
    buffer: LogBuffer,
    file: Option<File>,
}

/// The logs of one worker.
#[derive(Default)]
pub struct Logs {
    /// A few: listeners mostly share one.
    open: RefCell<Vec<Log>>,
    /// Where the last line went.
    last: Cell<usize>,
    /// Lines wait for the writing task.
    scheduled: Cell<bool>,
    /// The writing task, once there is one.
    writer: Cell<Option<Rc<Notify>>>,
}

impl Logs {
    /// Appends a line to a sink's buffer and sees to its being written soon.
    pub fn line(self: &Rc<Self>, sink: &AccessLogSink, render: impl FnOnce(&mut Vec<u8>)) {
        let full = {
            let open = &mut *self.open.borrow_mut();
            let at = self.place(open, sink);
            let log = &mut open[at];
            let full = log.buffer.line(render);
            if full {
                log.write();
            }
            full
        };
        if !full && !self.scheduled.replace(true) {
            self.wake_writer();
        }
    }

    /// Lets the writing task write in a moment. It is one for as long as the worker lives, so that waking it takes no
    /// memory.
    fn wake_writer(self: &Rc<Self>) {
        let wake = self.writer.take().unwrap_or_else(|| {
            let wake = Rc::new(Notify::new());
            tokio::task::spawn_local(write_behind(Rc::downgrade(self), wake.clone()));
            wake
        });
        wake.notify_one();
        self.writer.set(Some(wake));
    }

    /// The log of this sink, opened on its first line.
    fn place(&self, open: &mut Vec<Log>, sink: &AccessLogSink) -> usize {
        if let Some(log) = open.get(self.last.get())
            && same(&log.sink, sink)
        {
            return self.last.get();
        }
        let at = open.iter().position(|log| same(&log.sink, sink)).unwrap_or_else(|| {
            let file = open_sink(sink);
            if let Err(e) = &file {
                eprintln!("access log {sink:?}: {e}");
            }
            open.push(Log { sink: sink.clone(), buffer: LogBuffer::new(FLUSH_AT, LIMIT), file: file.ok() });
            open.len() - 1
        });
        self.last.set(at);
        at
    }

    /// Writes everything.
    pub fn flush(&self) {
        self.open.borrow_mut().iter_mut().for_each(Log::write);
    }
}

async fn write_behind(logs: Weak<Logs>, wake: Rc<Notify>) {
    loop {
        wake.notified().await;
        tokio::time::sleep(LATEST).await;
        let Some(logs) = logs.upgrade() else { return };
        logs.scheduled.set(false);
        logs.flush();
    }
}

impl Log {
    /// A sink that fails loses what it was given: telemetry never holds traffic up.
    fn write(&mut self) {
        if self.buffer.is_empty() {
            return;
        }
        let _lost = match &mut self.file {
            Some(file) => self.buffer.flush_into(file),
            None => self.buffer.flush_into(&mut io::sink()),
        };
    }
}

/// Whether two sinks are one; paths are compared as they are written.
fn same(a: &AccessLogSink, b: &AccessLogSink) -> bool {
    match (a, b) {
        (AccessLogSink::File(a), AccessLogSink::File(b)) => Arc::ptr_eq(a, b) || a.as_os_str() == b.as_os_str(),
        (AccessLogSink::Stdout, AccessLogSink::Stdout) | (AccessLogSink::Stderr, AccessLogSink::Stderr) => true,
        _ => false,
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
