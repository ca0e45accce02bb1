//! Tests of `call.rs`, over real sockets.
