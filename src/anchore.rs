//! Anchore Enterprise over HTTP. The only user of the HTTP client.
