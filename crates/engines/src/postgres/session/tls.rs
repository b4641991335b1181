//! TLS as libpq has it, by rustls: whose certificates count depends on `sslmode` and on whether a root certificate is
//! there (PostgreSQL documentation, 34.19).
//!
//! Without verification the server's certificate is taken as it is, as libpq does below `verify-ca`: that keeps out who
//! only listens, not who answers in the server's place.

use super::plain::Plain;
use crate::postgres::connection::{Settings, SslMode};
use flow::{SourceError, SourceErrorKind};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::UnixStream;
use tokio_postgres::{CancelToken, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

/// How a connection is secured.
#[derive(Clone)]
pub(super) enum Tls {
    /// Not at all: by a socket of this machine.
    Socket(PathBuf),
    /// Not at all: over the network.
    Off,
    /// By this configuration.
    On(Box<MakeRustlsConnect>),
}

impl Tls {
    /// Makes the configuration that the settings ask for.
    pub(super) fn of(settings: &Settings, object: &str) -> Result<Self, SourceError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let versions = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| refused(object, &error))?;
        let builder = versions
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Verifier::of(settings, provider, object)?));
        let config = match &settings.ssl_identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = certificates(certificate, object)?;
                let key = PrivateKeyDer::from_pem_file(key)
                    .map_err(|error| unreadable(object, "the key", key, &error))?;
                builder.with_client_auth_cert(chain, key).map_err(|error| refused(object, &error))?
            }
        };
        Ok(Self::On(Box::new(MakeRustlsConnect::new(config))))
    }

    /// Asks the server to end a statement, as far as it can be asked.
    pub(super) async fn cancel(&self, token: CancelToken) {
        // The end of the connection ends the statement too, only later.
        let _ = match self {
            Tls::Socket(path) => match UnixStream::connect(path).await {
                Ok(stream) => token.cancel_query_raw(stream, NoTls).await,
                Err(_) => return,
            },
            Tls::Off => token.cancel_query(Plain).await,
            Tls::On(tls) => token.cancel_query(tls.as_ref().clone()).await,
        };
    }
}

fn refused(object: &str, error: &dyn std::fmt::Display) -> SourceError {
    SourceError::new(SourceErrorKind::Invalid, object, format!("TLS cannot be used: {error}"))
}

fn unreadable(object: &str, what: &str, path: &Path, error: &dyn std::fmt::Display) -> SourceError {
    let message = format!("{what} {} cannot be read: {error}", path.display());
    SourceError::new(SourceErrorKind::Invalid, object, message)
}

fn certificates(path: &Path, object: &str) -> Result<Vec<CertificateDer<'static>>, SourceError> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| unreadable(object, "the certificate", path, &error))
}

/// Whose certificates count.
#[derive(Debug)]
struct Verifier {
    /// `None`: anybody's.
    roots: Option<Arc<WebPkiServerVerifier>>,
    by_name: bool,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    fn of(settings: &Settings, provider: Arc<CryptoProvider>, object: &str) -> Result<Self, SourceError> {
        let verified = matches!(settings.ssl_mode, SslMode::VerifyCa | SslMode::VerifyFull);
        let by_name = settings.ssl_mode == SslMode::VerifyFull;
        if !verified && settings.ssl_root.is_none() {
            return Ok(Self { roots: None, by_name, provider });
        }
        let mut store = RootCertStore::empty();
        let found = match &settings.ssl_root {
            Some(path) => certificates(path, object)?,
            None => rustls_native_certs::load_native_certs().certs,
        };
        store.add_parsable_certificates(found);
        if store.is_empty() {
            return Err(SourceError::new(
                SourceErrorKind::Invalid,
                object,
                "there is no root certificate to verify the server by",
            )
            .with_hint("name one by sslrootcert, or put it into ~/.postgresql/root.crt"));
        }
        let roots = WebPkiServerVerifier::builder_with_provider(Arc::new(store), Arc::clone(&provider))
            .build()
            .map_err(|error| refused(object, &error))?;
        Ok(Self { roots: Some(roots), by_name, provider })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(roots) = &self.roots else { return Ok(ServerCertVerified::assertion()) };
        match roots.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.by_name => Ok(ServerCertVerified::assertion()),
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
