//! Bodies of requests and answers, read whole with a limit in bytes and in time.
//!
//! The one place that collects a body: who calls [`read`] holds at most `bytes_max` bytes, however the
//! other side frames or delays them.

use std::error::Error as StdError;
use std::time::Duration;

use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body, Bytes};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the body is larger than {bytes_max} bytes")]
    TooLarge { bytes_max: usize },
    #[error("the body did not arrive within {0:?}")]
    Timeout(Duration),
    #[error("the body broke off")]
    Broken(#[source] Box<dyn StdError + Send + Sync>),
}

/// Reads a body to its end.
pub async fn read<B>(body: B, bytes_max: usize, within: Duration) -> Result<Bytes, Error>
where
    B: Body,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    let too_large = Error::TooLarge { bytes_max };
    // A declared length is refused before anything is read.
    if body.size_hint().lower() > bytes_max as u64 {
        return Err(too_large);
    }
    let collected = tokio::time::timeout(within, Limited::new(body, bytes_max).collect())
        .await
        .map_err(|_elapsed| Error::Timeout(within))?;
    match collected {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large),
        Err(error) => Err(Error::Broken(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use http_body_util::Full;
    use hyper::body::Frame;

    use super::*;

    /// Says nothing about its length and gives its parts one by one, then waits for ever or ends.
    struct Trickle {
        parts: Vec<&'static str>,
        ends: bool,
    }

    impl Body for Trickle {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            match self.parts.pop() {
                Some(part) => {
                    Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(part.as_bytes())))))
                }
                None if self.ends => Poll::Ready(None),
                None => Poll::Pending,
            }
        }
    }

    const WITHIN: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn a_body_at_the_limit_is_read_and_one_byte_more_is_refused() {
        let body = || Full::new(Bytes::from_static(b"12345"));
        assert_eq!(read(body(), 5, WITHIN).await.unwrap(), "12345");
        let error = read(body(), 4, WITHIN).await.unwrap_err();
        assert_eq!(error.to_string(), "the body is larger than 4 bytes");
    }

    #[tokio::test]
    async fn a_body_of_unknown_length_is_counted_as_it_arrives() {
        let body = |ends| Trickle {
            parts: vec!["cd", "ab"],
            ends,
        };
        assert_eq!(read(body(true), 4, WITHIN).await.unwrap(), "abcd");
        let error = read(body(false), 3, WITHIN).await.unwrap_err();
        assert!(matches!(error, Error::TooLarge { bytes_max: 3 }));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_end_is_given_up() {
        let body = Trickle {
            parts: vec![],
            ends: false,
        };
        let error = read(body, 4, WITHIN).await.unwrap_err();
        assert_eq!(error.to_string(), "the body did not arrive within 5s");
    }
}
