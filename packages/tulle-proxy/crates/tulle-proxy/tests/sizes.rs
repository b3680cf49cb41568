//! How large the state is that every connection and every request in flight holds. A future grows by whatever it keeps over
//! an `.await`; what is rare belongs behind a box. Lower a limit when a figure falls well below it.

use tulle_balance::Endpoint;
use tulle_config::Cluster;
use tulle_http::h1::conn::Connection;
use tulle_proxy::exchange::{self, Heads, record::Record};
use tulle_proxy::serve::{Client, h1};

fn of_two<A, B, F: Future>(_: fn(A, B) -> F) -> usize {
    size_of::<F>()
}

fn of_four<A, B, C, D, F: Future>(_: fn(A, B, C, D) -> F) -> usize {
    size_of::<F>()
}

#[test]
fn state_stays_small() {
    // (what, bytes, limit)
    let table = [
        ("an exchange", of_two(exchange::serve), 3584),
        ("an HTTP/1.1 connection with its exchange", of_four(h1::serve), 4416),
        ("an HTTP/1.1 codec", size_of::<Connection>(), 352),
        ("what is known of a connection", size_of::<Client>(), 648),
        ("what is remembered of an exchange", size_of::<Record>(), 640),
        ("a cluster", size_of::<Cluster>(), 1280),
        ("an endpoint", size_of::<Endpoint>(), 96),
        ("the heads of an exchange", size_of::<Heads>(), 352),
    ];
    for (what, bytes, limit) in table {
        println!("{what}: {bytes}");
        assert!(bytes <= limit, "{what} takes {bytes} bytes, {limit} are allowed");
    }
}
