//! HTTP/2: what stands between h2 and the streams of both legs.

#[cfg_attr(not(test), expect(dead_code, reason = "HTTP/2 is not served yet"))]
mod gather;
#[cfg_attr(not(test), expect(dead_code, reason = "HTTP/2 is not served yet"))]
mod meter;
