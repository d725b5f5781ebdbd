//! TLS by rustls over ring, versions 1.2 and 1.3: who we are to clients, and whom we trust as a client.
//!
//! [`Identity`] is a server's certificate with its key, read from PEM files and replaced in place when
//! they are read again; a connection keeps what it began with. [`Trust`] says which certificates of others
//! are taken. There is one provider of cryptography, chosen here and never installed for the process.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

/// Spoken over a connection when the other side asks; nothing else is.
const HTTP_1_1: &[u8] = b"http/1.1";

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{path} cannot be read", path = path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    /// The file is none of PEM, or lacks what is looked for.
    #[error("{path} holds no {what} in PEM", path = path.display())]
    Missing { path: PathBuf, what: &'static str },
    #[error("{path} is not PEM", path = path.display())]
    Malformed { path: PathBuf, source: pem::Error },
    #[error("{path} cannot be used", path = path.display())]
    Unusable {
        path: PathBuf,
        source: rustls::Error,
    },
    #[error("the key in {key} is not that of the certificate in {cert}", key = key.display(), cert = cert.display())]
    Mismatch { cert: PathBuf, key: PathBuf },
    #[error("this system has no certificates of authorities, name a file of them")]
    NoAuthorities,
    #[error("{name:?} is not the name of a server")]
    Name { name: String },
}

/// The PEM files of an [`Identity`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityFiles {
    /// The certificate, then those that lead to its authority.
    pub cert: PathBuf,
    pub key: PathBuf,
}

impl IdentityFiles {
    fn load(&self) -> Result<CertifiedKey, Error> {
        let certs = load_certificates(&self.cert)?;
        let key = PrivateKeyDer::from_pem_file(&self.key)
            .map_err(|error| explain(&self.key, "private key", error))?;
        CertifiedKey::from_der(certs, key, &provider()).map_err(|source| match source {
            rustls::Error::InconsistentKeys(_) => Error::Mismatch {
                cert: self.cert.clone(),
                key: self.key.clone(),
            },
            source => Error::Unusable {
                path: self.key.clone(),
                source,
            },
        })
    }
}

/// What a server shows its clients. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Identity(Arc<Current>);

#[derive(Debug)]
struct Current(RwLock<Arc<CertifiedKey>>);

impl Identity {
    pub fn load(files: &IdentityFiles) -> Result<Self, Error> {
        let key = Arc::new(files.load()?);
        Ok(Self(Arc::new(Current(RwLock::new(key)))))
    }

    /// Reads the files again for the connections to come; when that fails, what was there stays.
    pub fn reload(&self, files: &IdentityFiles) -> Result<(), Error> {
        let key = Arc::new(files.load()?);
        *self.0.0.write().unwrap_or_else(PoisonError::into_inner) = key;
        Ok(())
    }

    pub fn acceptor(&self) -> TlsAcceptor {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("ring speaks the default versions")
            .with_no_client_auth()
            .with_cert_resolver(self.0.clone());
        config.alpn_protocols = vec![HTTP_1_1.to_vec()];
        TlsAcceptor::from(Arc::new(config))
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let current = self.0.read().unwrap_or_else(PoisonError::into_inner);
        Some(current.clone())
    }
}

/// Which certificates of servers are taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// Those that lead to an authority of the system.
    #[default]
    System,
    /// Those that lead to an authority in a PEM file, and no others.
    File(PathBuf),
    /// Any at all: the connection is encrypted, but nobody knows with whom.
    Anyone,
}

/// The TLS side of a client.
pub fn client_config(trust: &Trust) -> Result<ClientConfig, Error> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("ring speaks the default versions");
    let roots = match trust {
        Trust::System => system_authorities()?,
        Trust::File(path) => {
            let mut roots = RootCertStore::empty();
            for cert in load_certificates(path)? {
                roots.add(cert).map_err(|source| Error::Unusable {
                    path: path.clone(),
                    source,
                })?;
            }
            roots
        }
        Trust::Anyone => {
            let verifier = Arc::new(anyone::Verifier::new(provider()));
            return Ok(builder
                .dangerous()
                .with_custom_certificate_verifier(verifier)
                .with_no_client_auth());
        }
    };
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// A connector for a client of hyper's: both `http` and `https`, the latter as `config` says.
///
/// `server_name`, when it is given, is what certificates have to be for, instead of the URL's host.
pub fn connector(
    config: ClientConfig,
    server_name: Option<&str>,
) -> Result<HttpsConnector<HttpConnector>, Error> {
    let mut http = HttpConnector::new();
    // Otherwise it refuses what is not `http`.
    http.enforce_http(false);
    http.set_nodelay(true);
    let mut builder = HttpsConnectorBuilder::new()
        .with_tls_config(config)
        .https_or_http();
    if let Some(name) = server_name {
        let name = ServerName::try_from(name.to_owned()).map_err(|_invalid| Error::Name {
            name: name.to_owned(),
        })?;
        builder = builder.with_server_name_resolver(FixedServerNameResolver::new(name));
    }
    Ok(builder.enable_http1().wrap_connector(http))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn system_authorities() -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    // Some are malformed on many systems; what counts is that there are any.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(Error::NoAuthorities);
    }
    Ok(roots)
}

fn load_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let explain = |error| explain(path, "certificate", error);
    let certs: Vec<_> = CertificateDer::pem_file_iter(path)
        .map_err(explain)?
        .collect::<Result<_, _>>()
        .map_err(explain)?;
    if certs.is_empty() {
        return Err(explain(pem::Error::NoItemsFound));
    }
    Ok(certs)
}

fn explain(path: &Path, what: &'static str, error: pem::Error) -> Error {
    let path = path.to_owned();
    match error {
        pem::Error::NoItemsFound => Error::Missing { path, what },
        pem::Error::Io(source) => Error::Unreadable { path, source },
        source => Error::Malformed { path, source },
    }
}

/// Taking whatever certificate comes.
mod anyone {
    use std::sync::Arc;

    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
    use rustls::{DigitallySignedStruct, Error, SignatureScheme};

    /// Checks that the other side has the key of its certificate, and nothing else.
    #[derive(Debug)]
    pub(super) struct Verifier(Arc<CryptoProvider>);

    impl Verifier {
        pub(super) fn new(provider: Arc<CryptoProvider>) -> Self {
            Self(provider)
        }
    }

    impl ServerCertVerifier for Verifier {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            let algorithms = &self.0.signature_verification_algorithms;
            verify_tls12_signature(message, cert, signed, algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            let algorithms = &self.0.signature_verification_algorithms;
            verify_tls13_signature(message, cert, signed, algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.0.signature_verification_algorithms.supported_schemes()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rcgen::{CertifiedKey as Made, generate_simple_self_signed};
    use tempfile::TempDir;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio_rustls::TlsConnector;

    use super::*;

    /// A certificate for `localhost` that is its own authority.
    fn write_identity(dir: &TempDir) -> IdentityFiles {
        let Made { cert, signing_key } =
            generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let files = IdentityFiles {
            cert: dir.path().join("cert.pem"),
            key: dir.path().join("key.pem"),
        };
        fs::write(&files.cert, cert.pem()).unwrap();
        fs::write(&files.key, signing_key.serialize_pem()).unwrap();
        files
    }

    /// One byte from the server to the client.
    async fn exchange(acceptor: TlsAcceptor, trust: &Trust, name: &'static str) -> io::Result<u8> {
        let (near, far) = duplex(1 << 14);
        let connector = TlsConnector::from(Arc::new(client_config(trust).unwrap()));
        let serving = async {
            let mut stream = acceptor.accept(far).await?;
            stream.write_u8(7).await?;
            stream.flush().await
        };
        let asking = async {
            let name = ServerName::try_from(name).unwrap();
            connector.connect(name, near).await?.read_u8().await
        };
        let (_served, answer) = tokio::join!(serving, asking);
        answer
    }

    #[tokio::test]
    async fn a_server_is_trusted_by_its_authority_and_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let files = write_identity(&dir);
        let identity = Identity::load(&files).unwrap();
        let ours = Trust::File(files.cert.clone());
        let answer = exchange(identity.acceptor(), &ours, "localhost").await;
        assert_eq!(answer.unwrap(), 7);
        let wrong_name = exchange(identity.acceptor(), &ours, "elsewhere").await;
        assert!(wrong_name.unwrap_err().to_string().contains("certificate"));
        let other = tempfile::tempdir().unwrap();
        let theirs = Trust::File(write_identity(&other).cert);
        let wrong_authority = exchange(identity.acceptor(), &theirs, "localhost").await;
        assert!(wrong_authority.is_err());
        let anyone = exchange(identity.acceptor(), &Trust::Anyone, "elsewhere").await;
        assert_eq!(anyone.unwrap(), 7);
    }

    #[tokio::test]
    async fn a_reloaded_certificate_is_shown_and_a_bad_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let files = write_identity(&dir);
        let identity = Identity::load(&files).unwrap();
        let acceptor = identity.acceptor();
        let old = Trust::File(dir.path().join("old.pem"));
        fs::copy(&files.cert, dir.path().join("old.pem")).unwrap();

        fs::write(&files.key, "not a key").unwrap();
        identity.reload(&files).unwrap_err();
        assert!(exchange(acceptor.clone(), &old, "localhost").await.is_ok());

        write_identity(&dir);
        identity.reload(&files).unwrap();
        assert!(exchange(acceptor.clone(), &old, "localhost").await.is_err());
        let new = Trust::File(files.cert);
        assert!(exchange(acceptor, &new, "localhost").await.is_ok());
    }

    #[test]
    fn a_file_that_cannot_be_used_is_named() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (files, others) = (write_identity(&dir), write_identity(&other));
        let error = |cert: &Path, key: &Path| {
            let (cert, key) = (cert.to_owned(), key.to_owned());
            Identity::load(&IdentityFiles { cert, key })
                .unwrap_err()
                .to_string()
        };
        let shown = |path: &Path| path.display().to_string();
        let absent = dir.path().join("absent.pem");
        assert_eq!(
            error(&absent, &files.key),
            format!("{} cannot be read", shown(&absent))
        );
        assert_eq!(
            error(&files.key, &files.key),
            format!("{} holds no certificate in PEM", shown(&files.key))
        );
        assert_eq!(
            error(&files.cert, &files.cert),
            format!("{} holds no private key in PEM", shown(&files.cert))
        );
        assert_eq!(
            error(&files.cert, &others.key),
            format!(
                "the key in {} is not that of the certificate in {}",
                shown(&others.key),
                shown(&files.cert)
            )
        );
        let nothing = Trust::File(files.key.clone());
        let untrusted = client_config(&nothing).unwrap_err().to_string();
        assert!(untrusted.contains("holds no certificate"), "{untrusted}");
    }
}
