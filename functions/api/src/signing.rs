//! Signing secrets are replaced on request, and shown once.

use std::time::Duration;

use domain::integration::Target;
use domain::integration_log::Action;
use http::Response;
use shared::recent::ANSWERED_AFTER;
use shared::store::StoreError;

use crate::bodies::{self, Rotation};
use crate::error::ApiError;
use crate::integrations::{MAX_UPDATES, entry, find, pause};
use crate::request::Request;
use crate::{App, responses, targets};

/// For how many hours a secret that was replaced signs as well, unless a rotation says otherwise.
const OVERLAP_HOURS: u32 = 24;
/// For how many hours it may.
const MAX_OVERLAP_HOURS: u32 = 168;

/// `POST /{integration_id}/_rotate_signing_secret`: also while the integration runs, since both secrets sign for a while.
pub async fn rotate(
    app: &App,
    tenant: &str,
    id: &str,
    request: &Request,
) -> Result<Response<String>, ApiError> {
    let Rotation { overlap_hours } = bodies::optional(request)?;
    let hours = overlap_hours.unwrap_or(OVERLAP_HOURS);
    if hours > MAX_OVERLAP_HOURS {
        let reason = format!("must be between 0 and {MAX_OVERLAP_HOURS}");
        return Err(ApiError::bad_field("overlap_hours", reason));
    }
    let overlap = Duration::from_secs(3600) * hours;
    for attempt in 1..=MAX_UPDATES {
        let mut next = find(app, tenant, id).await?;
        let Target::Webhook { callback, .. } = &mut next.target else {
            return Err(ApiError::bad_request(
                "Only webhooks are signed, and this is an S3 integration.",
            ));
        };
        let before = callback.signing.take();
        let made = targets::signing(app, tenant, id, before, overlap).await?;
        let (signing, secret) = made;
        callback.signing = Some(signing);
        let entry = entry(
            app,
            Action::IntegrationUpdated,
            format!(
                "Signing secret rotated via API. The one before signs as well for {hours} hours."
            ),
        );
        match app.integrations.replace(next, &[entry]).await {
            Ok(integration) => {
                // What was read before is good no more: the new secret signs from the response on.
                tokio::time::sleep(ANSWERED_AFTER).await;
                return responses::ok(&responses::RotationResponse::of(&integration, &secret));
            }
            Err(StoreError::Changed) => pause(attempt).await,
            Err(error) => return Err(error.into()),
        }
    }
    Err(ApiError::busy())
}
