//! HTTP/2 over the `h2` crate: one stream as a body to read and to write, and the translation of heads.

pub mod head;
pub mod stream;

pub use stream::H2Stream;

/// How connections are set up.
#[derive(Clone, Copy, Debug)]
pub struct Windows {
    pub stream: u32,
    pub connection: u32,
    pub max_streams: u32,
    /// Bytes of one decoded header list.
    pub header_list: u32,
}

/// Bytes queued for sending on one stream before its writer waits.
pub const SEND_BUFFER: usize = 256 * 1024;

impl Windows {
    pub fn server(&self) -> h2::server::Builder {
        let mut builder = h2::server::Builder::new();
        builder
            .initial_window_size(self.stream)
            .initial_connection_window_size(self.connection)
            .max_concurrent_streams(self.max_streams)
            .max_header_list_size(self.header_list)
            .max_send_buffer_size(SEND_BUFFER)
            .max_concurrent_reset_streams(64)
            .max_pending_accept_reset_streams(64)
            .enable_connect_protocol();
        builder
    }

    pub fn client(&self) -> h2::client::Builder {
        let mut builder = h2::client::Builder::new();
        builder
            .initial_window_size(self.stream)
            .initial_connection_window_size(self.connection)
            .max_header_list_size(self.header_list)
            .max_send_buffer_size(SEND_BUFFER)
            .max_concurrent_reset_streams(64)
            .initial_max_send_streams(100)
            .enable_push(false);
        builder
    }
}
