//! Who may do what: tokens, their scopes, and the check that every route has.
//!
//! A client shows a token as `Authorization: Bearer`, or as the password of `Basic` where it can do no
//! better. Only the SHA-256 of a token is kept; what is shown is hashed and compared with all that are
//! known, in a time that says nothing about them. A token is never logged. Scopes stand side by side: a
//! token that writes does not read unless it has both. Without any token everything is open, which is what
//! loopback is for.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use crate::net::secret::Secret;

use super::error::{ApiError, Kind};
use super::router::Api;

/// What a token may be good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Queries, lists, states, `/metrics`.
    Read,
    /// Samples and reports of migrations.
    Write,
    /// Deleting, and writing to the host's disk.
    Admin,
}

impl Scope {
    pub const ALL: [Self; 3] = [Self::Read, Self::Write, Self::Admin];

    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "admin",
        }
    }
}

/// `[[server.token]]`: one token as the configuration knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenConfig {
    /// What messages call it.
    pub name: String,
    /// In hexadecimal, of the whole token.
    pub sha256: String,
    pub scopes: Vec<Scope>,
}

/// Why a `[[server.token]]` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error(
        "server.token {name:?}: sha256 is 64 hexadecimal digits, `cutover token new` prints them"
    )]
    Sha256 { name: String },
    #[error("server.token {name:?}: scopes is empty: name read, write or admin")]
    NoScope { name: String },
    #[error("server.token {name:?} is there twice")]
    Twice { name: String },
}

/// The tokens that are known. Cloning shares them.
#[derive(Clone, Debug, Default)]
pub struct Tokens(Arc<RwLock<Arc<[Token]>>>);

#[derive(Debug)]
struct Token {
    name: String,
    digest: [u8; 32],
    scopes: Vec<Scope>,
}

impl Tokens {
    pub fn new(configs: &[TokenConfig]) -> Result<Self, TokenError> {
        let tokens = Self::default();
        tokens.replace(configs)?;
        Ok(tokens)
    }

    /// Takes other tokens for the requests to come; none of them when one is wrong.
    pub fn replace(&self, configs: &[TokenConfig]) -> Result<(), TokenError> {
        let mut tokens: Vec<Token> = Vec::with_capacity(configs.len());
        for config in configs {
            let name = config.name.clone();
            if tokens.iter().any(|token| token.name == name) {
                return Err(TokenError::Twice { name });
            }
            if config.scopes.is_empty() {
                return Err(TokenError::NoScope { name });
            }
            let Some(digest) = parse_sha256(&config.sha256) else {
                return Err(TokenError::Sha256 { name });
            };
            let scopes = config.scopes.clone();
            tokens.push(Token {
                name,
                digest,
                scopes,
            });
        }
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = tokens.into();
        Ok(())
    }

    /// Whether everything is open.
    pub fn is_empty(&self) -> bool {
        self.current().is_empty()
    }

    fn current(&self) -> Arc<[Token]> {
        let tokens = self.0.read().unwrap_or_else(PoisonError::into_inner);
        tokens.clone()
    }

    /// Whether a request may do what needs a scope.
    fn admit(&self, headers: &HeaderMap, scope: Scope) -> Result<(), Refusal> {
        let tokens = self.current();
        if tokens.is_empty() {
            return Ok(());
        }
        let shown = shown_token(headers).ok_or(Refusal::Nobody { scope })?;
        let digest = sha256(shown.expose());
        // All of them, whichever fits: the time does not tell which, or how far one came.
        let token = tokens.iter().fold(None, |found, token| {
            let is_it = bool::from(token.digest.ct_eq(&digest));
            if is_it { Some(token) } else { found }
        });
        let token = token.ok_or(Refusal::Unknown)?;
        if token.scopes.contains(&scope) {
            return Ok(());
        }
        Err(Refusal::Lacking {
            name: token.name.clone(),
            scope,
        })
    }
}

/// Why a request is not admitted.
#[derive(Debug)]
enum Refusal {
    Nobody { scope: Scope },
    Unknown,
    Lacking { name: String, scope: Scope },
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nobody { scope } => write!(
                formatter,
                "this needs a token with the scope {name:?}, shown as \"Authorization: Bearer TOKEN\"",
                name = scope.name()
            ),
            Self::Unknown => write!(formatter, "the token is not known here"),
            Self::Lacking { name, scope } => write!(
                formatter,
                "the token {name:?} lacks the scope {scope:?}",
                scope = scope.name()
            ),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (kind, challenge) = match &self {
            Self::Nobody { .. } => (Kind::Unauthorized, "Bearer realm=\"cutover\""),
            Self::Unknown => (
                Kind::Unauthorized,
                "Bearer realm=\"cutover\", error=\"invalid_token\"",
            ),
            Self::Lacking { .. } => (
                Kind::Forbidden,
                "Bearer realm=\"cutover\", error=\"insufficient_scope\"",
            ),
        };
        let mut response = ApiError::new(kind, self.to_string()).into_response();
        let challenge = HeaderValue::from_static(challenge);
        response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        response
    }
}

/// Marks a request that was made in this process, by its dashboard: no socket can bring it, since it is
/// no part of what is sent.
#[derive(Clone, Copy, Debug)]
pub struct InProcess;

/// The middleware around each route: its scope, `None` for what everybody may ask.
pub(super) async fn check(
    State((api, scope)): State<(Arc<Api>, Option<Scope>)>,
    request: Request,
    next: Next,
) -> Response {
    if let Some(scope) = scope
        && request.extensions().get::<InProcess>().is_none()
        && let Err(refusal) = api.state.tokens.admit(request.headers(), scope)
    {
        return refusal.into_response();
    }
    next.run(request).await
}

/// The token that a request shows; of `Basic` it is the password, whatever the name.
fn shown_token(headers: &HeaderMap) -> Option<Secret> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, credentials) = value.split_once(' ')?;
    let credentials = credentials.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(Secret::new(credentials));
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = String::from_utf8(STANDARD.decode(credentials).ok()?).ok()?;
    let (_, password) = pair.split_once(':')?;
    Some(Secret::new(password))
}

/// Bytes of randomness in a token.
const TOKEN_BYTES: usize = 32;

/// A new token that nobody can guess, and its SHA-256 in hexadecimal.
///
/// # Panics
/// When the system has no randomness.
pub fn new_token() -> (Secret, String) {
    let mut bytes = [0; TOKEN_BYTES];
    SystemRandom::new()
        .fill(&mut bytes)
        .expect("the system has randomness");
    let token = format!("cutover_{}", URL_SAFE_NO_PAD.encode(bytes));
    let mut hex = String::with_capacity(64);
    for byte in sha256(&token) {
        hex.push_str(&format!("{byte:02x}"));
    }
    (Secret::new(token), hex)
}

fn sha256(text: &str) -> [u8; 32] {
    let digest = digest(&SHA256, text.as_bytes());
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

fn parse_sha256(hex: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    if hex.len() != 2 * digest.len() {
        return None;
    }
    for (byte, pair) in digest.iter_mut().zip(hex.as_bytes().chunks(2)) {
        let digit = |digit: u8| char::from(digit).to_digit(16);
        *byte = u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok()?;
    }
    Some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(name: &str, sha256: &str, scopes: &[Scope]) -> TokenConfig {
        TokenConfig {
            name: name.to_owned(),
            sha256: sha256.to_owned(),
            scopes: scopes.to_vec(),
        }
    }

    fn headers(authorization: &str) -> HeaderMap {
        HeaderMap::from_iter([(AUTHORIZATION, authorization.parse().unwrap())])
    }

    /// `printf abc | sha256sum`
    const SHA256_OF_ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn said(tokens: &Tokens, authorization: &str, scope: Scope) -> String {
        tokens
            .admit(&headers(authorization), scope)
            .map_or_else(|refusal| refusal.to_string(), |()| "admitted".to_owned())
    }

    #[test]
    fn a_token_is_known_by_its_hash_and_good_for_its_scopes() {
        let tokens = Tokens::new(&[
            config("pusher", &SHA256_OF_ABC.to_uppercase(), &[Scope::Write]),
            config("other", &"0".repeat(64), &Scope::ALL),
        ])
        .unwrap();
        assert_eq!(said(&tokens, "Bearer abc", Scope::Write), "admitted");
        assert_eq!(said(&tokens, "bearer  abc ", Scope::Write), "admitted");
        assert_eq!(
            said(&tokens, "Bearer abc", Scope::Read),
            "the token \"pusher\" lacks the scope \"read\""
        );
        for unknown in ["Bearer abd", "Bearer ", "Bearer abc abc"] {
            let refusal = said(&tokens, unknown, Scope::Write);
            assert_eq!(refusal, "the token is not known here", "{unknown:?}");
        }
        for nothing in ["abc", "Digest abc", "Basic abc", "Basic %%%", "Bearer"] {
            let refusal = said(&tokens, nothing, Scope::Write);
            assert!(
                refusal.starts_with("this needs a token"),
                "{nothing:?} {refusal}"
            );
        }
    }

    #[test]
    fn the_password_of_basic_is_a_token_too() {
        let tokens = Tokens::new(&[config("any", SHA256_OF_ABC, &[Scope::Read])]).unwrap();
        let basic = |pair: &str| format!("Basic {}", STANDARD.encode(pair));
        assert_eq!(said(&tokens, &basic("who:abc"), Scope::Read), "admitted");
        assert_eq!(said(&tokens, &basic(":abc"), Scope::Read), "admitted");
        assert_ne!(said(&tokens, &basic("abc"), Scope::Read), "admitted");
    }

    #[test]
    fn without_tokens_everything_is_open() {
        assert!(
            Tokens::default()
                .admit(&HeaderMap::new(), Scope::Admin)
                .is_ok()
        );
    }

    #[test]
    fn what_is_wrong_with_a_token_is_named_and_the_others_stay() {
        let tokens = Tokens::new(&[config("a", SHA256_OF_ABC, &[Scope::Read])]).unwrap();
        for (configs, reason) in [
            (vec![config("b", "abc", &[Scope::Read])], "\"b\": sha256"),
            (
                vec![config("b", &"g".repeat(64), &[Scope::Read])],
                "\"b\": sha256",
            ),
            (vec![config("b", SHA256_OF_ABC, &[])], "\"b\": scopes"),
            (
                vec![
                    config("b", SHA256_OF_ABC, &[Scope::Read]),
                    config("b", SHA256_OF_ABC, &[Scope::Read]),
                ],
                "\"b\" is there twice",
            ),
        ] {
            let error = tokens.replace(&configs).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
        assert_eq!(said(&tokens, "Bearer abc", Scope::Read), "admitted");
    }

    #[test]
    fn a_new_token_fits_the_hash_that_is_told_with_it() {
        let (token, sha256) = new_token();
        assert_ne!(new_token().0.expose(), token.expose());
        assert_eq!(token.expose().len(), "cutover_".len() + 43);
        let tokens = Tokens::new(&[config("new", &sha256, &[Scope::Read])]).unwrap();
        let shown = format!("Bearer {}", token.expose());
        assert_eq!(said(&tokens, &shown, Scope::Read), "admitted");
    }
}
