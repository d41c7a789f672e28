//! `RUN --device`.

use super::fields::split_fields;
use crate::ast::Device;
use crate::directives::parse_bool;
use crate::error::Problem;
use crate::error::suggest::nearest;

/// Reads `name[,required]`, `name=name,required=true`. A field that is no known key is the name:
/// CDI names (`vendor1.com/device=foo`) hold equals signs.
pub(super) fn parse(text: &str) -> Result<Device, Problem> {
    let mut device = Device::default();
    for field in split_fields(text, "devices")? {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.to_lowercase(), Some(value)),
            None => (field.to_lowercase(), None),
        };
        match (key.as_str(), value) {
            ("required", None) => device.required = true,
            ("required", Some(value)) => {
                let bad_value = || Problem::FieldValue {
                    key: key.clone(),
                    value: value.to_owned(),
                };
                device.required = parse_bool(value).ok_or_else(bad_value)?;
            }
            ("name", Some(_)) if !device.name.is_empty() => {
                return Err(Problem::DeviceNameRepeated { name: device.name });
            }
            ("name", Some(value)) => device.name = value.to_owned(),
            _ if device.name.is_empty() => device.name = field,
            (_, None) => return Err(Problem::FieldWithoutValue { field }),
            (_, Some(_)) => {
                return Err(Problem::UnexpectedKey {
                    suggestion: nearest(&key, &["name", "required"]),
                    key,
                    field,
                });
            }
        }
    }
    Ok(device)
}
