//! What the proxy tells about itself: metrics, access logs, trace context. Formats into buffers; does no I/O.

pub mod batch;
pub mod compile;
pub mod envoy;
pub mod format;
pub mod istio;
pub mod json;
mod labels;
pub mod prometheus;
pub mod registry;
pub mod scoped;
mod shown;
pub mod strftime;
mod text;
pub mod trace;
pub mod view;

pub use batch::LogBuffer;
pub use format::{FormatError, ISTIO_TEXT_FORMAT, TextFormat};
pub use istio::{IstioMetrics, PeerLabels, RequestKey, RequestSample, ServiceLabels};
pub use json::{JsonFormat, JsonTemplate};
pub use registry::{Counter, Gauge, Histogram, Registry, Sheet};
pub use scoped::Scoped;
pub use trace::{SpanRecord, TraceContext};
pub use view::{Field, HeadPart, LogView, Owner, TimePoint, Value};
