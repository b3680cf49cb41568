//! `/server_info`, `/certs` and `/listeners`.

use serde_json::{Value, json};
use tulle_core::UnixNanos;
use tulle_core::metadata::Value as Meta;
use tulle_identity::details::{CertificateDetails, details};

use super::timestamp::rfc3339;
use super::{Admin, Answer, Query, clusters};

pub fn server(admin: &Admin) -> Value {
    let up = admin.hooks.now().secs().saturating_sub(admin.started.secs());
    let node = &admin.node;
    json!({
        "version": format!("tulle-proxy/{}", env!("CARGO_PKG_VERSION")),
        "state": admin.state().name(),
        "uptime_current_epoch": format!("{up}s"),
        "uptime_all_epochs": format!("{up}s"),
        "hot_restart_version": "disabled",
        "command_line_options": { "concurrency": admin.hooks.concurrency() },
        "node": {
            "id": &*node.id,
            "cluster": &*node.cluster,
            "metadata": node.metadata.iter().map(|(key, value)| (key.to_string(), json_of(value))).collect::<Value>(),
            "user_agent_name": "tulle-proxy",
        },
    })
}

fn json_of(value: &Meta) -> Value {
    match value {
        Meta::Null => Value::Null,
        Meta::Bool(truth) => (*truth).into(),
        Meta::Number(number) => (*number).into(),
        Meta::String(text) => (&**text).into(),
        Meta::List(items) => items.iter().map(json_of).collect(),
        Meta::Struct(fields) => fields.iter().map(|(key, value)| (key.to_string(), json_of(value))).collect(),
    }
}

pub fn listeners(admin: &Admin, query: Query<'_>) -> Answer {
    let mut bound = admin.hooks.bound();
    bound.sort();
    if query.get("format") == Some("json") {
        let statuses: Vec<Value> = bound
            .iter()
            .map(|(name, at)| json!({ "name": &**name, "local_address": clusters::address(&(*at).into()) }))
            .collect();
        return Answer::json(&json!({ "listener_statuses": statuses }));
    }
    Answer::text(bound.iter().map(|(name, at)| format!("{name}::{at}\n")).collect::<String>())
}

pub fn certificates(admin: &Admin) -> Value {
    let Some(identity) = admin.identity.get() else { return json!({ "certificates": [] }) };
    let now = admin.hooks.now();
    let shown = |certificates: &[rustls_pki_types::CertificateDer<'static>]| -> Vec<Value> {
        certificates.iter().filter_map(|one| details(one).ok()).map(|one| certificate(&one, now)).collect()
    };
    json!({ "certificates": [{ "ca_cert": shown(&identity.roots), "cert_chain": shown(&identity.chain) }] })
}

fn certificate(details: &CertificateDetails, now: UnixNanos) -> Value {
    let left = details.not_after - i64::try_from(now.secs()).unwrap_or(i64::MAX);
    let uris = details.uris.iter().map(|uri| json!({ "uri": uri }));
    let names = uris.chain(details.dns.iter().map(|dns| json!({ "dns": dns })));
    json!({
        "path": "<inline>",
        "serial_number": details.serial_number,
        "subject_alt_names": names.collect::<Vec<_>>(),
        "days_until_expiration": (left.max(0) / 86_400).to_string(),
        "valid_from": time(details.not_before),
        "expiration_time": time(details.not_after),
    })
}

fn time(seconds: i64) -> String {
    rfc3339(UnixNanos(u64::try_from(seconds).unwrap_or(0).saturating_mul(1_000_000_000)))
}
