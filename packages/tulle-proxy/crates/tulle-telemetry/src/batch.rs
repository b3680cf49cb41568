//! Collects rendered lines on a worker, so that they are written in batches off the request path.

use std::io::Write;

/// Longer than most lines.
const LINE: usize = 1024;

/// A worker's buffer for one log.
#[derive(Debug)]
pub struct LogBuffer {
    bytes: Vec<u8>,
    flush_at: usize,
    limit: usize,
    dropped: u64,
}

impl LogBuffer {
    /// Asks for a flush from `flush_at` bytes on, and drops lines beyond `limit`: a stuck disk must not eat the memory.
    pub fn new(flush_at: usize, limit: usize) -> Self {
        LogBuffer { bytes: Vec::new(), flush_at, limit, dropped: 0 }
    }

    /// Lets `render` append one line; says whether it is time to flush.
    pub fn line(&mut self, render: impl FnOnce(&mut Vec<u8>)) -> bool {
        if self.bytes.len() >= self.limit {
            self.dropped += 1;
        } else {
            if self.bytes.capacity() == 0 {
                // Room for what is written at once and the line that passes it, so that it never grows piece by piece.
                self.bytes.reserve_exact(self.flush_at + LINE);
            }
            render(&mut self.bytes);
        }
        self.bytes.len() >= self.flush_at
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Lines dropped so far.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Writes everything in one call. The memory is kept for the next lines; what is never used of it is never touched.
    ///
    /// # Errors
    /// Those of `sink`; what was to be written is lost, since telemetry never holds traffic up.
    pub fn flush_into(&mut self, sink: &mut impl Write) -> std::io::Result<()> {
        let written = sink.write_all(&self.bytes);
        self.bytes.clear();
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_beyond_the_limit_are_counted_not_kept() {
        let mut buffer = LogBuffer::new(4, 8);
        assert!(!buffer.line(|out| out.extend_from_slice(b"abc")));
        assert!(buffer.line(|out| out.extend_from_slice(b"defgh")));
        buffer.line(|out| out.extend_from_slice(b"lost"));
        let mut sink = Vec::new();
        buffer.flush_into(&mut sink).unwrap();
        assert_eq!((sink.as_slice(), buffer.dropped(), buffer.is_empty()), (&b"abcdefgh"[..], 1, true));
    }
}
