//! The router on a socket, in clear or over TLS.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;

use crate::net::stall::StallGuard;
use crate::shutdown::Shutdown;

/// Connections at once; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 1024;

/// From the opening of a connection to its first request, where TLS comes before it.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// What somebody is told who speaks HTTP where TLS is spoken, as Go's servers tell it.
const NOT_TLS: &[u8] =
    b"HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n\
    Client sent an HTTP request to an HTTPS server.\n";

/// From the opening of a connection, or the end of the request before, to the end of a request's head.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a client may leave an answer unread.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

/// Pause after an error of `accept`, such as too many open files: it would only come again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts connections until the shutdown begins; connections then end after the request they serve.
pub async fn serve(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    router: Router,
    shutdown: Shutdown,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = async {
            let place = places.clone().acquire_owned().await;
            let place = place.expect("the semaphore is never closed");
            listener.accept().await.map(|(stream, _)| (stream, place))
        };
        let (stream, place) = tokio::select! {
            () = shutdown.begun() => return,
            accepted = accepted => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        let connection = Connection {
            tls: tls.clone(),
            router: router.clone(),
            shutdown: shutdown.clone(),
            _place: place,
        };
        shutdown.spawn("http connection", connection.serve(stream));
    }
}

/// What serves one connection.
struct Connection {
    tls: Option<TlsAcceptor>,
    router: Router,
    shutdown: Shutdown,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    async fn serve(self, stream: TcpStream) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "cannot set TCP_NODELAY");
        }
        let Some(acceptor) = &self.tls else {
            return self.converse(StallGuard::new(stream, WRITE_TIMEOUT)).await;
        };
        let greeting = tokio::time::timeout(HANDSHAKE_TIMEOUT, greet(acceptor, stream));
        let greeted = tokio::select! {
            greeted = greeting => greeted,
            () = self.shutdown.begun() => return,
        };
        match greeted {
            Ok(Ok(stream)) => self.converse(stream).await,
            Ok(Err(error)) => tracing::debug!(%error, "no TLS connection came about"),
            Err(_elapsed) => tracing::debug!("a TLS handshake was not finished in time"),
        }
    }

    async fn converse(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(self.router));
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.shutdown.begun() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            // Clients hang up as they please.
            tracing::debug!(%error, "connection ended");
        }
    }
}

/// The handshake of TLS; who speaks HTTP instead is told so.
async fn greet(
    acceptor: &TlsAcceptor,
    mut stream: TcpStream,
) -> std::io::Result<tokio_rustls::server::TlsStream<StallGuard<TcpStream>>> {
    let mut first = [0];
    if stream.peek(&mut first).await? == 1 && first[0].is_ascii_uppercase() {
        stream.write_all(NOT_TLS).await?;
        stream.shutdown().await?;
        return Err(std::io::Error::other("it is HTTP in clear"));
    }
    acceptor
        .accept(StallGuard::new(stream, WRITE_TIMEOUT))
        .await
}
