//! A request and an exchange for the tests of routing.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::time::Duration;

use tulle_core::{Headers, HeadersMut, RequestView, UnixNanos};
use tulle_route::*;
use tulle_telemetry::{Field, HeadPart, LogView, TimePoint, Value};

#[derive(Clone, Debug)]
pub struct Request {
    pub method: &'static str,
    pub authority: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
}

pub fn get(authority: &str, path: &str) -> Request {
    Request { method: "GET", authority: authority.into(), path: path.into(), headers: Vec::new() }
}

impl Request {
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }
}

impl Headers for Request {
    fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_bytes())
    }

    fn visit_values(&self, name: &str, visit: &mut dyn FnMut(&[u8])) {
        self.headers.iter().filter(|(key, _)| key == name).for_each(|(_, value)| visit(value.as_bytes()));
    }

    fn visit_headers(&self, visit: &mut dyn FnMut(&[u8], &[u8])) {
        self.headers.iter().for_each(|(key, value)| visit(key.as_bytes(), value.as_bytes()));
    }
}

impl HeadersMut for Request {
    fn append(&mut self, name: &str, value: &[u8]) {
        self.headers.push((name.into(), String::from_utf8(value.to_vec()).unwrap()));
    }

    fn set(&mut self, name: &str, value: &[u8]) {
        self.remove(name);
        self.append(name, value);
    }

    fn remove(&mut self, name: &str) {
        self.headers.retain(|(key, _)| key != name);
    }
}

impl RequestView for Request {
    fn method(&self) -> &str {
        self.method
    }

    fn authority(&self) -> &str {
        &self.authority
    }

    fn path(&self) -> &str {
        &self.path
    }

    fn scheme(&self) -> &str {
        "http"
    }
}

impl LogView for Request {
    fn header(&self, _part: HeadPart, name: &str) -> Option<&[u8]> {
        RequestView::field(self, name)
    }

    fn field(&self, field: Field) -> Value<'_> {
        match field {
            Field::Protocol => Value::from("HTTP/1.1"),
            _ => Value::None,
        }
    }

    fn start_time(&self) -> UnixNanos {
        UnixNanos(0)
    }

    fn elapsed(&self, _point: TimePoint) -> Option<Duration> {
        None
    }
}

/// A route called `name` that forwards to a cluster of the same name.
pub fn route(name: &str, matches: RouteMatch) -> Route {
    Route::new(name.into(), matches, RouteAction::Forward(Box::new(Forward::to(name.into()))))
}

pub fn host(name: &str, domains: &[&str], routes: Vec<Route>) -> VirtualHost {
    VirtualHost::new(name.into(), domains.iter().map(|domain| (*domain).into()).collect(), routes)
}

pub fn config(hosts: Vec<VirtualHost>) -> RouteConfig {
    RouteConfig::new("test".into(), hosts).unwrap()
}
