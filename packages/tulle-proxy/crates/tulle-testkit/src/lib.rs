//! Servers and clients for tests, in the test's own process and on ports the system chooses. They speak raw bytes where
//! a test is about bytes, so that no library hides what the proxy did.

pub mod client;
pub mod h1;
pub mod h2echo;
pub mod netns;
