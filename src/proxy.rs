//! Which proxy a request goes through, decided from settings and environment alone.
