//! Reads a whole body into one buffer. Keeping single-byte chunks would take a hundred times the memory.

use bytes::{Bytes, BytesMut};
use http_body::Body;
use http_body_util::BodyExt;

/// Why a body could not be read.
#[derive(Debug)]
pub enum ReadError<E> {
    /// It exceeds the limit.
    TooLong,
    /// It ended early.
    Broken(E),
}

/// Reads all of `body`, without its trailers.
///
/// # Errors
/// When it ends early or exceeds `bytes_max` bytes.
pub async fn read_body<B>(mut body: B, bytes_max: usize) -> Result<Bytes, ReadError<B::Error>>
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut read = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(ReadError::Broken)?;
        let data = frame.data_ref().map_or(&[][..], |data| data);
        if read.len() + data.len() > bytes_max {
            return Err(ReadError::TooLong);
        }
        read.extend_from_slice(data);
    }
    Ok(read.freeze())
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream;
    use http_body::Frame;
    use http_body_util::{Full, StreamBody};

    use super::*;

    #[tokio::test]
    async fn a_body_is_read_up_to_its_limit_and_not_beyond() {
        let frame = |text| Ok::<_, Infallible>(Frame::data(Bytes::from(text)));
        let body = || StreamBody::new(stream::iter(["one ", "two"].map(frame)));
        assert_eq!(read_body(body(), 7).await.unwrap(), "one two");
        assert!(matches!(read_body(body(), 6).await, Err(ReadError::TooLong)));
        assert!(read_body(Full::new(Bytes::new()), 0).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_an_error() {
        let pieces = [Ok(Frame::data(Bytes::from("one"))), Err("cut")];
        let read = read_body(StreamBody::new(stream::iter(pieces)), 10).await;
        assert!(matches!(read, Err(ReadError::Broken("cut"))));
    }
}
