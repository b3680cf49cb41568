//! TCP through an HTTP tunnel: the endpoint is a proxy, which is asked with CONNECT for a connection to the target.

use tulle_config::tcp::Tunneling;
use tulle_connect::Lease;
use tulle_http::h1::encode::Fate;
use tulle_http::side::open_h2;
use tulle_http::{Broken, Expect, Framing, Interim, RequestHead, ResponseHead, Side, To, Tunnel};

use super::Client;
use crate::exchange::attempt::{Hold, response_limits};
use crate::exchange::mirror::read;
use crate::exchange::record::{Record, View};
use crate::worker::Target;

/// Why there is no tunnel.
pub enum Refused {
    Broken,
    /// The proxy answered so.
    Status,
}

/// Asks for the tunnel; what is returned carries the target's bytes.
pub async fn open(
    (client, record): (&Client, &Record),
    tunneling: &Tunneling,
    target: &Target,
    lease: Lease,
) -> Result<(Side, Hold), Refused> {
    let head = request(client, record, tunneling);
    let (mut up, hold) = match lease {
        Lease::H1(mut conn, lease) => {
            conn.queue_request(&head, Fate::Tunnel);
            (Side::H1(conn), Hold::H1(lease))
        }
        Lease::H2(lease) => {
            let stream = open_h2(lease.link(), &head).map_err(|_: Broken| Refused::Broken)?;
            (stream, Hold::H2(lease))
        }
    };
    let limits = response_limits(&target.upstream.config_ref());
    let mut answer = ResponseHead::default();
    let expect = || Expect { limits: &limits, to: To::Connect, interim: Interim::Drop };
    let asking = std::future::poll_fn(|cx| read(cx, &mut up, expect(), &mut answer));
    asking.await.map_err(|_| Refused::Broken)?;
    if !(200..300).contains(&answer.status) {
        return Err(Refused::Status);
    }
    if let Side::H1(conn) = &mut up {
        conn.begin_read(Framing::Close);
        conn.begin_write(Framing::Close);
    }
    Ok((up, hold))
}

fn request(client: &Client, record: &Record, tunneling: &Tunneling) -> RequestHead {
    let nothing = RequestHead::default();
    let view = View::new(client, &nothing, None, record);
    let (mut head, mut scratch) = (RequestHead::default(), Vec::new());
    tunneling.target.render(&view, &mut scratch);
    head.set_method(b"CONNECT");
    head.set_authority(&scratch);
    head.tunnel = Tunnel::Connect;
    for header in &tunneling.headers {
        header.apply(&view, &mut head.headers, &mut scratch);
    }
    head
}
