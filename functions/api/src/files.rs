//! The files of an S3 integration.

use domain::exported::ExportedFile;
use domain::integration::{IntegrationRef, Target};
use domain::time::Millis;
use http::Response;
#[cfg(test)]
use schemars::JsonSchema;
use serde::Serialize;
use ulid::Ulid;

use crate::error::ApiError;
use crate::integrations::find;
use crate::request::Request;
use crate::{App, responses};

/// Ours: the files of an integration, newest first.
#[derive(Serialize)]
#[cfg_attr(test, derive(JsonSchema), schemars(rename = "Files"))]
pub struct FilesResponse {
    files: Vec<FileAnswer>,
    /// Where the list continues: the parameter `cursor` of the next call. Not there at the end of the list.
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
}

/// Ours: a file in the bucket.
#[derive(Serialize)]
#[cfg_attr(test, derive(JsonSchema), schemars(rename = "File"))]
struct FileAnswer {
    /// Its bucket.
    bucket: String,
    /// Its key.
    key: String,
    /// When it was known to be stored.
    created_at: String,
    /// How many lines it has: one event each.
    lines: u64,
    /// How many bytes.
    bytes: u64,
    /// Their CRC-64/NVME, 16 hexadecimal digits.
    crc64: String,
    /// The first position of the event log that it covers. Where it is the `until` of the file before, nothing is missing in between.
    from: String,
    /// The first position that it does not cover.
    until: String,
    /// The time of `from`: no event in it was published earlier.
    published_from: String,
    /// The time of `until`: no event in it was published later.
    published_until: String,
}

impl From<ExportedFile> for FileAnswer {
    fn from(file: ExportedFile) -> FileAnswer {
        let time = |position: Ulid| Millis(position.timestamp_ms()).to_string();
        FileAnswer {
            created_at: file.created_at.to_string(),
            lines: file.lines,
            bytes: file.size_bytes,
            published_from: time(file.from),
            published_until: time(file.until),
            from: file.from.to_string(),
            until: file.until.to_string(),
            bucket: file.bucket,
            key: file.key,
            crc64: file.crc64,
        }
    }
}

/// `GET /{integration_id}/files`
pub async fn list(
    app: &App,
    tenant: &str,
    id: &str,
    request: &Request,
) -> Result<Response<String>, ApiError> {
    let cursor = request.parameter("cursor");
    let before = match cursor.as_deref() {
        None | Some("") => None,
        Some(text) => Some(Ulid::from_string(text).map_err(|_| {
            ApiError::bad_field("cursor", "must be the cursor of an earlier response")
        })?),
    };
    let integration = find(app, tenant, id).await?;
    if let Target::Webhook { .. } = integration.target {
        return Err(ApiError::bad_request(
            "This is a webhook integration; only S3 integrations have files.",
        ));
    }
    let integration_ref = IntegrationRef::from(&integration);
    let (files, has_more) = app.exported_files.list(&integration_ref, before).await?;
    let last = files.last().map(|file| file.until.to_string());
    responses::ok(&FilesResponse {
        files: files.into_iter().map(FileAnswer::from).collect(),
        cursor: last.filter(|_| has_more),
    })
}
