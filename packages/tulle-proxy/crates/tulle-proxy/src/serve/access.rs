//! Access rules of a connection, asked when its chain and its peer are known and before anything is done with it.

use std::sync::Arc;

use tulle_policy::Rbac;
use tulle_policy::rbac::{Facts, NoRequest, Peer};

use super::Client;
use crate::worker::Worker;

/// What rules may know of a connection.
pub fn facts(client: &Client) -> Facts<'_> {
    let tls = client.tls.as_ref();
    Facts {
        destination: client.local,
        direct: client.direct.ip(),
        remote: client.peer.ip(),
        server_name: tls.and_then(|tls| tls.server_name.as_deref()),
        peer: match tls {
            Some(tls) if tls.peer_verified => tls.uri_san.as_deref().map_or(Peer::Unnamed, Peer::Named),
            _ => Peer::Anonymous,
        },
        metadata: None,
    }
}

/// Asks every rule set; `server_name` is what inspection saw, for TLS that is not terminated here.
///
/// # Errors
/// The connection is to be closed; the words are its termination details.
pub fn ask(worker: &Worker, client: &Client, rules: &[Arc<Rbac>], server_name: Option<&str>) -> Result<(), String> {
    if rules.is_empty() {
        return Ok(());
    }
    let (sheet, stats) = (&worker.metrics.sheet, &client.http);
    let known = facts(client);
    let facts = Facts { server_name: known.server_name.or(server_name), ..known };
    for rbac in rules {
        if let Some(shadow) = &rbac.shadow {
            let denied = shadow.decide(&facts, &NoRequest).is_denied();
            sheet.inc(if denied { stats.rbac_shadow_denied } else { stats.rbac_shadow_allowed });
        }
        let Some(enforced) = &rbac.enforced else { continue };
        let verdict = enforced.decide(&facts, &NoRequest);
        if verdict.is_denied() {
            sheet.inc(stats.rbac_denied);
            return Err(verdict.details());
        }
        sheet.inc(stats.rbac_allowed);
    }
    Ok(())
}
