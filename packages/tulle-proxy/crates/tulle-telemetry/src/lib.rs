//! What the proxy tells about itself: metrics, access logs, trace context. Formats into buffers; does no I/O.

pub mod format;
pub mod istio;
pub mod registry;
pub mod trace;
pub mod view;

pub use format::{FormatError, TextFormat};
pub use view::{Field, HeadPart, LogView, TimePoint, Value};
