//! The stand-ins as a client sees them, over real sockets.
//!
//! `kubernetes`, `watch`, `leases` and `enterprise`: what each answers. `faults`: what the script of faults does to either. `proxy`: the
//! way to them through one.

#![cfg(test)]

mod enterprise;
mod faults;
mod kubernetes;
mod leases;
mod proxy;
mod watch;

use reqwest::{Certificate, Client};
use testbed::server::tls::Authority;

/// A client that knows no proxy and follows no redirection.
fn client() -> Client {
    builder().build().expect("a client")
}

/// A client that trusts this authority alone.
fn client_trusting(authority: &Authority) -> reqwest::ClientBuilder {
    let certificate = Certificate::from_pem(authority.certificate().as_bytes()).expect("PEM");
    builder().tls_certs_only([certificate])
}

fn builder() -> reqwest::ClientBuilder {
    // Another test may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder().no_proxy().no_gzip().redirect(reqwest::redirect::Policy::none())
}
