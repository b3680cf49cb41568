//! Access logs: file and standard streams, text and JSON formats, filters.

use std::path::Path;
use std::sync::Arc;

use envoy_types::pb::envoy::config::accesslog::v3 as log_pb;
use envoy_types::pb::envoy::config::core::v3 as core_pb;
use envoy_types::pb::envoy::data::accesslog::v3::AccessLogType;
use envoy_types::pb::envoy::extensions::access_loggers::file::v3 as file_pb;
use envoy_types::pb::envoy::extensions::access_loggers::stream::v3 as stream_pb;
use envoy_types::pb::envoy::r#type::v3 as type_pb;
use envoy_types::pb::envoy::r#type::v3::fractional_percent::DenominatorType;
use prost::Name as _;
use tulle_config::access_log::{Comparison, ComparisonOp, LineKind, LogFilter, Share};
use tulle_config::{AccessLog, AccessLogSink, LogFormat};
use tulle_core::metadata::{Struct, Value};
use tulle_telemetry::json::Absent;
use tulle_telemetry::{FormatError, JsonFormat, JsonTemplate, TextFormat};

use super::common::{struct_to_map, truth};
use super::cx::{Cx, type_name, without_effect};
use super::matchers::{header_matcher, metadata_matcher};

/// Envoy's format when none is configured.
const DEFAULT_FORMAT: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" \
%RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \
\"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\"\n";

/// `Some(None)` for a log that writes nowhere (`/dev/null`), or is sent to where nothing is sent here.
pub fn access_log(cx: &mut Cx, message: log_pb::AccessLog) -> Option<Option<AccessLog>> {
    use log_pb::access_log::ConfigType;
    let log_pb::AccessLog { name, filter, config_type } = message;
    let filter = match filter {
        Some(filter) => Some(cx.field("filter", |cx| log_filter(cx, filter))?),
        None => None,
    };
    let Some(ConfigType::TypedConfig(any)) = config_type else {
        cx.error_at("typed_config", format!("is required for {name:?}"));
        return None;
    };
    let typed = type_name(&any.type_url);
    let (sink, format) = cx.field("typed_config", |cx| {
        if typed == file_pb::FileAccessLog::full_name() {
            let message = cx.unpack::<file_pb::FileAccessLog>(&any)?;
            file(cx, message)
        } else if typed == stream_pb::StdoutAccessLog::full_name() {
            use stream_pb::stdout_access_log::AccessLogFormat::LogFormat as Given;
            let message = cx.unpack::<stream_pb::StdoutAccessLog>(&any)?;
            let given = message.access_log_format.map(|Given(format)| format);
            Some((Some(AccessLogSink::Stdout), substitution(cx, given)?))
        } else if typed == stream_pb::StderrAccessLog::full_name() {
            use stream_pb::stderr_access_log::AccessLogFormat::LogFormat as Given;
            let message = cx.unpack::<stream_pb::StderrAccessLog>(&any)?;
            let given = message.access_log_format.map(|Given(format)| format);
            Some((Some(AccessLogSink::Stderr), substitution(cx, given)?))
        } else {
            cx.warn(format!("the access logger {typed} is not known: nothing is logged there"));
            Some((None, substitution(cx, None)?))
        }
    })?;
    Some(sink.map(|sink| AccessLog { sink, format: Arc::new(format), filter }))
}

fn file(cx: &mut Cx, message: file_pb::FileAccessLog) -> Option<(Option<AccessLogSink>, LogFormat)> {
    use file_pb::file_access_log::AccessLogFormat as Given;
    let file_pb::FileAccessLog { path, access_log_format } = message;
    let format = match access_log_format {
        None => substitution(cx, None)?,
        Some(Given::Format(text)) => LogFormat::Text(cx.field("format", |cx| text_format(cx, &text))?),
        Some(Given::JsonFormat(fields)) => {
            cx.field("json_format", |cx| json(cx, struct_to_map(fields), Absent::Null))?
        }
        Some(Given::TypedJsonFormat(fields)) => {
            cx.field("typed_json_format", |cx| json(cx, struct_to_map(fields), Absent::Null))?
        }
        Some(Given::LogFormat(format)) => cx.field("log_format", |cx| substitution(cx, Some(format)))?,
    };
    cx.name("path", &path)?;
    let sink = match path.as_str() {
        "/dev/null" => None,
        "/dev/stdout" => Some(AccessLogSink::Stdout),
        "/dev/stderr" => Some(AccessLogSink::Stderr),
        path => Some(AccessLogSink::File(Path::new(path).into())),
    };
    Some((sink, format))
}

pub fn substitution(cx: &mut Cx, message: Option<core_pb::SubstitutionFormatString>) -> Option<LogFormat> {
    use core_pb::substitution_format_string::Format;
    let Some(message) = message else { return text_format(cx, DEFAULT_FORMAT).map(LogFormat::Text) };
    let core_pb::SubstitutionFormatString { omit_empty_values, content_type, formatters, json_format_options, format } =
        message;
    let wanted = formatters.len();
    if cx.each("formatters", formatters, formatter).len() != wanted {
        return None;
    }
    without_effect!(cx; content_type, json_format_options);
    match cx.required("format", format)? {
        Format::TextFormat(text) => {
            let format = cx.field("text_format", |cx| text_format(cx, &text))?;
            Some(LogFormat::Text(if omit_empty_values { format.omitting() } else { format }))
        }
        Format::JsonFormat(fields) => {
            let absent = if omit_empty_values { Absent::Omit } else { Absent::Null };
            cx.field("json_format", |cx| json(cx, struct_to_map(fields), absent))
        }
        Format::TextFormatSource(source) => {
            let text = cx.field("text_format_source", |cx| super::common::content(cx, source))?;
            text_format(cx, &String::from_utf8_lossy(&text)).map(LogFormat::Text)
        }
    }
}

/// What formatters add to the operators is there in any case, or said to be missing where it is used.
pub fn formatter(cx: &mut Cx, message: core_pb::TypedExtensionConfig) -> Option<()> {
    let core_pb::TypedExtensionConfig { name, typed_config } = message;
    let url = typed_config.map(|any| any.type_url).unwrap_or_default();
    let known = ["req_without_query.v3.ReqWithoutQuery", "metadata.v3.Metadata", "cel.v3.Cel"];
    if !known.iter().any(|name| type_name(&url).strip_prefix("envoy.extensions.formatter.") == Some(name)) {
        cx.error(format!("the formatter {name:?} is not supported"));
        return None;
    }
    Some(())
}

fn text_format(cx: &mut Cx, text: &str) -> Option<TextFormat> {
    let mut unwritten = Vec::new();
    let format = TextFormat::parse_log(text, &mut unwritten);
    compiled(cx, format, unwritten)
}

fn compiled<T>(cx: &mut Cx, format: Result<T, FormatError>, unwritten: Vec<String>) -> Option<T> {
    for operator in unwritten {
        cx.warn(format!("{operator} is not known here and written as an absent value"));
    }
    format.map_err(|error| cx.error(error.to_string())).ok()
}

fn json(cx: &mut Cx, fields: Struct, absent: Absent) -> Option<LogFormat> {
    let mut unwritten = Vec::new();
    let format = JsonFormat::compile(&template(&Value::Struct(fields)), absent, &mut unwritten);
    compiled(cx, format, unwritten).map(LogFormat::Json)
}

fn template(value: &Value) -> JsonTemplate {
    match value {
        Value::Null => JsonTemplate::Null,
        Value::Bool(truth) => JsonTemplate::Bool(*truth),
        Value::Number(number) => JsonTemplate::Number(*number),
        Value::String(text) => JsonTemplate::Text(text.to_string()),
        Value::List(items) => JsonTemplate::List(items.iter().map(template).collect()),
        Value::Struct(fields) => {
            JsonTemplate::Object(fields.iter().map(|(key, value)| (key.to_string(), template(value))).collect())
        }
    }
}

pub fn log_filter(cx: &mut Cx, message: log_pb::AccessLogFilter) -> Option<LogFilter> {
    use log_pb::access_log_filter::FilterSpecifier as Specifier;
    Some(match cx.required("filter_specifier", message.filter_specifier)? {
        Specifier::StatusCodeFilter(filter) => LogFilter::Status(comparison(cx, filter.comparison)?),
        Specifier::DurationFilter(filter) => LogFilter::Duration(comparison(cx, filter.comparison)?),
        Specifier::NotHealthCheckFilter(_) => LogFilter::NotHealthCheck,
        Specifier::AndFilter(and) => LogFilter::And(cx.each("and_filter.filters", and.filters, log_filter)),
        Specifier::OrFilter(or) => LogFilter::Or(cx.each("or_filter.filters", or.filters, log_filter)),
        Specifier::ResponseFlagFilter(flags) => {
            LogFilter::ResponseFlag(flags.flags.iter().map(|flag| cx.intern(flag)).collect())
        }
        Specifier::GrpcStatusFilter(grpc) => LogFilter::GrpcStatus {
            statuses: grpc.statuses.iter().filter_map(|status| u16::try_from(*status).ok()).collect(),
            exclude: grpc.exclude,
        },
        Specifier::HeaderFilter(filter) => {
            let header = cx.required("header_filter.header", filter.header)?;
            LogFilter::Header(cx.field("header_filter.header", |cx| header_matcher(cx, header))?)
        }
        Specifier::TraceableFilter(_) => LogFilter::Traced,
        Specifier::RuntimeFilter(filter) => cx.field("runtime_filter", |cx| share(cx, filter))?,
        Specifier::MetadataFilter(filter) => cx.field("metadata_filter", |cx| by_metadata(cx, filter))?,
        Specifier::LogTypeFilter(filter) => cx.field("log_type_filter", |cx| by_kind(cx, filter))?,
        Specifier::ExtensionFilter(_) => {
            cx.error("this kind of access log filter is not supported");
            return None;
        }
    })
}

/// There is no runtime: the share is the configured one, and where none is, none of all, as in Envoy.
fn share(cx: &mut Cx, message: log_pb::RuntimeFilter) -> Option<LogFilter> {
    let log_pb::RuntimeFilter { runtime_key, percent_sampled, use_independent_randomness } = message;
    cx.name("runtime_key", &runtime_key)?;
    let type_pb::FractionalPercent { numerator, denominator } = percent_sampled.unwrap_or_default();
    let denominator = match cx.enumeration::<DenominatorType>("percent_sampled.denominator", denominator)? {
        DenominatorType::Hundred => 100,
        DenominatorType::TenThousand => 10_000,
        DenominatorType::Million => 1_000_000,
    };
    Some(LogFilter::Share { share: Share { numerator, denominator }, by_id: !use_independent_randomness })
}

fn by_metadata(cx: &mut Cx, message: log_pb::MetadataFilter) -> Option<LogFilter> {
    let log_pb::MetadataFilter { matcher, match_if_key_not_found } = message;
    let matcher = cx.required("matcher", matcher)?;
    let matcher = cx.field("matcher", |cx| metadata_matcher(cx, matcher))?;
    Some(LogFilter::Metadata { matcher, absent: truth(match_if_key_not_found, true) })
}

fn by_kind(cx: &mut Cx, message: log_pb::LogTypeFilter) -> Option<LogFilter> {
    let log_pb::LogTypeFilter { types, exclude } = message;
    let kinds = cx.each("types", types, |cx, kind| {
        Some(match cx.enumeration::<AccessLogType>("", kind)? {
            AccessLogType::DownstreamEnd => LineKind::DownstreamEnd,
            AccessLogType::TcpConnectionEnd => LineKind::TcpConnectionEnd,
            _ => LineKind::Other,
        })
    });
    Some(LogFilter::Kind { kinds, exclude })
}

fn comparison(cx: &mut Cx, message: Option<log_pb::ComparisonFilter>) -> Option<Comparison> {
    use log_pb::comparison_filter::Op;
    let log_pb::ComparisonFilter { op, value } = cx.required("comparison", message)?;
    Some(Comparison {
        op: match cx.enumeration::<Op>("comparison.op", op)? {
            Op::Eq => ComparisonOp::Eq,
            Op::Ge => ComparisonOp::Ge,
            Op::Le => ComparisonOp::Le,
            Op::Ne => ComparisonOp::Ne,
        },
        value: cx.required("comparison.value", value)?.default_value,
    })
}
