//! Resolves receivers' names, and gives connections only addresses that were vetted.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use domain::receiver::address::is_public;

use crate::sockets::{NoSocket, are_none_left};

/// Resolves a name once for each connection. A name of which **any** address is not public is refused, and the connection
/// is made to the addresses of this very response: neither a mixed response nor a second look-up (rebinding) leads inside.
pub(crate) struct PublicResolver {
    look_up: LookUp,
    is_allowed: fn(IpAddr) -> bool,
}

/// Asks for the addresses of a name.
type LookUp = Arc<dyn Fn(String) -> LookingUp + Send + Sync>;
type LookingUp = Pin<Box<dyn Future<Output = std::io::Result<Vec<IpAddr>>> + Send>>;

/// A name has an address that is not public.
#[derive(Debug, thiserror::Error)]
#[error("the name has an address that is not public")]
pub(crate) struct NotPublic;

/// A name has no address, or the look-up failed.
#[derive(Debug, thiserror::Error)]
#[error("the name could not be resolved")]
pub(crate) struct NotResolved;

impl PublicResolver {
    /// Asks the system's resolver; `allow_private` takes any of its responses.
    pub(crate) fn new(allow_private: bool) -> PublicResolver {
        PublicResolver {
            look_up: Arc::new(|name| {
                Box::pin(async move {
                    let found = tokio::net::lookup_host((name, 0)).await?;
                    Ok(found.map(|address| address.ip()).collect())
                })
            }),
            is_allowed: if allow_private { |_| true } else { is_public },
        }
    }

    /// The addresses of a name, each of which may be connected to.
    pub(crate) fn addresses(
        &self,
        name: String,
    ) -> impl Future<Output = Result<Vec<IpAddr>, Box<dyn Error + Send + Sync>>> + Send + use<>
    {
        let (looking_up, is_allowed) = ((self.look_up)(name), self.is_allowed);
        async move {
            let addresses = match looking_up.await {
                Ok(addresses) => addresses,
                Err(_) if are_none_left() => return Err(NoSocket.into()),
                Err(_) => return Err(NotResolved.into()),
            };
            if addresses.is_empty() {
                return Err(NotResolved.into());
            }
            match addresses.iter().all(|address| is_allowed(*address)) {
                true => Ok(addresses),
                false => Err(NotPublic.into()),
            }
        }
    }
}

impl fmt::Debug for PublicResolver {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("PublicResolver")
    }
}

#[cfg(test)]
mod tests {
    use domain::receiver::credentials::NONE;
    use std::net::Ipv4Addr;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use domain::receiver::outcome::Outcome;
    use domain::time::Millis;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::{Post, Receivers};

    /// The one address that these tests take for public, and one that they take for an inner one.
    const OUTSIDE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);
    const INSIDE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

    /// A resolver that gives `answers` one after the other, and counts how often it is asked.
    fn answering(answers: &[&[Ipv4Addr]]) -> (PublicResolver, Arc<AtomicUsize>) {
        let asked = Arc::new(AtomicUsize::new(0));
        let mut answers: Vec<Vec<IpAddr>> = answers
            .iter()
            .map(|addresses| addresses.iter().copied().map(IpAddr::V4).collect())
            .collect();
        answers.reverse();
        let (answers, counter) = (Mutex::new(answers), asked.clone());
        let look_up: LookUp = Arc::new(move |_| {
            counter.fetch_add(1, Ordering::Relaxed);
            let answer = answers.lock().unwrap().pop().unwrap_or_default();
            Box::pin(async move { Ok(answer) })
        });
        let is_allowed = |address| address == IpAddr::V4(OUTSIDE);
        (
            PublicResolver {
                look_up,
                is_allowed,
            },
            asked,
        )
    }

    /// A server that answers 204 and closes; it counts its connections.
    async fn serve(address: Ipv4Addr, port: u16) -> (u16, Arc<AtomicUsize>) {
        let listener = TcpListener::bind((address, port)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = connections.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                counter.fetch_add(1, Ordering::Relaxed);
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream
                    .write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n")
                    .await;
            }
        });
        (port, connections)
    }

    /// What comes of an attempt at a name that `resolver` resolves.
    async fn attempt(receivers: &Receivers, port: u16) -> Outcome {
        let post = Post {
            url: &format!("http://rebinding.example:{port}/"),
            credentials: &NONE,
            event_id: "e",
            body: "{}",
        };
        receivers.post(&post, Millis(0)).await.outcome
    }

    fn is_refused(outcome: &Outcome) -> bool {
        matches!(outcome, Outcome::Failed(failure) if failure.reason == "the address is not allowed")
    }

    #[tokio::test]
    async fn a_name_that_resolves_elsewhere_the_second_time_gets_nowhere() {
        let (port, outside) = serve(OUTSIDE, 0).await;
        let (_, inside) = serve(INSIDE, port).await;
        let (resolver, asked) = answering(&[&[OUTSIDE], &[INSIDE], &[OUTSIDE]]);
        let receivers = Receivers::with_resolver(true, resolver);
        assert!(!matches!(
            attempt(&receivers, port).await,
            Outcome::Failed(_)
        ));
        // Vetting and connecting share one look-up: there is no second one that could answer differently.
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        assert!(is_refused(&attempt(&receivers, port).await));
        assert!(!matches!(
            attempt(&receivers, port).await,
            Outcome::Failed(_)
        ));
        assert_eq!(outside.load(Ordering::Relaxed), 2);
        assert_eq!(inside.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn one_inner_address_among_public_ones_refuses_the_name() {
        let (port, outside) = serve(OUTSIDE, 0).await;
        for answer in [[OUTSIDE, INSIDE], [INSIDE, OUTSIDE]] {
            let (resolver, _) = answering(&[&answer]);
            let outcome = attempt(&Receivers::with_resolver(true, resolver), port).await;
            assert!(is_refused(&outcome), "{outcome:?}");
        }
        assert_eq!(outside.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn a_name_without_addresses_is_told_from_a_refused_one() {
        let (resolver, _) = answering(&[&[]]);
        let outcome = attempt(&Receivers::with_resolver(true, resolver), 1).await;
        assert!(
            matches!(&outcome, Outcome::Failed(failure) if failure.reason == "the host name could not be resolved"),
            "{outcome:?}"
        );
    }
}
