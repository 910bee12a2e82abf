//! A tensor as a pickle describes it: a call of a function of torch, which is read and not made.

use std::borrow::Cow;

use candle_core::pickle::Object;
use candle_core::{DType, Device, Shape, Tensor};

use super::Found;

/// Far more than any parameter has: a file says in a few bytes that an expanded tensor has as many as it likes.
const MOST_ELEMENTS: usize = 1 << 32;

/// A tensor that a pickle describes: a view of a storage.
pub(super) struct View {
    pub(super) storage: String,
    pub(super) dtype: DType,
    offset: usize,
    shape: Vec<usize>,
    strides: Vec<usize>,
}

impl View {
    /// Reads the call that makes a tensor: its storage, offset, shape and strides, and what does not matter here.
    pub(super) fn of(callable: Object, args: Object) -> Found<Self> {
        let (_, function) = callable.class().map_err(|_| "not a tensor")?;
        let mut args = args.tuple().map_err(|_| "not a tensor")?.into_iter();
        let mut next = || args.next().ok_or("made with too few arguments");
        match function.as_str() {
            "_rebuild_parameter" => {
                let (callable, args) = next()?.reduce().map_err(|_| "a parameter without tensor")?;
                Self::of(callable, args)
            }
            "_rebuild_from_type_v2" => {
                let (callable, _class) = (next()?, next()?);
                Self::of(callable, next()?)
            }
            "_rebuild_tensor" | "_rebuild_tensor_v2" => {
                let (storage, dtype) = storage_of(next()?)?;
                let (offset, shape, strides) = (number(next()?)?, numbers(next()?)?, numbers(next()?)?);
                match shape.len() == strides.len() {
                    true => Ok(Self { storage, dtype, offset, shape, strides }),
                    false => Err("as many strides as dimensions are needed".into()),
                }
            }
            other => Err(format!("made by `{other}`, not an ordinary tensor")),
        }
    }

    /// A copy of the tensor out of its storage's bytes: parameters that share memory could not be changed one at a time.
    /// Dimensions along which everything is the same (those of `expand`, of stride 0) are there once and take no memory.
    pub(super) fn tensor(&self, storage: &[u8]) -> Found<Tensor> {
        let dimensions = self.shape.iter().zip(&self.strides);
        let once: Vec<usize> =
            dimensions.map(|(&length, &stride)| if stride == 0 { length.min(1) } else { length }).collect();
        let elements = storage.len() / self.dtype.size_in_bytes();
        let outside = || format!("reaches beyond the {elements} elements of its storage");
        if product(&self.shape).is_none_or(|count| count > MOST_ELEMENTS) {
            return Err(format!("its shape {:?} is that of no parameter", self.shape));
        }
        let count: usize = once.iter().product();
        if count > 0 && self.last().is_none_or(|last| last >= elements) {
            return Err(outside());
        }
        if count > elements {
            return Err("its elements overlap; save it again from `tensor.contiguous()`".into());
        }
        let data = if count > 0 { self.gathered(&once, storage) } else { Cow::Borrowed(&[][..]) };
        let tensor = Tensor::from_raw_buffer(&data, self.dtype, &once, &Device::Cpu);
        tensor.and_then(|tensor| tensor.broadcast_as(self.shape.as_slice())).map_err(|error| error.to_string())
    }

    /// The place of the last element of a tensor that has any, unless that is no number.
    fn last(&self) -> Option<usize> {
        let mut dimensions = self.shape.iter().zip(&self.strides);
        dimensions.try_fold(self.offset, |last, (&length, &stride)| last.checked_add((length - 1).checked_mul(stride)?))
    }

    /// The bytes of the elements, row by row, of a tensor of shape `once` that has some and lies within the storage.
    fn gathered<'s>(&self, once: &[usize], storage: &'s [u8]) -> Cow<'s, [u8]> {
        let size = self.dtype.size_in_bytes();
        let bytes = |start: usize, count: usize| &storage[start * size..][..count * size];
        let (Some((&row, outer)), false) = (once.split_last(), Shape::from(once).is_contiguous(&self.strides)) else {
            return Cow::Borrowed(bytes(self.offset, once.iter().product()));
        };
        let mut starts = vec![self.offset];
        for (&length, &stride) in outer.iter().zip(&self.strides) {
            starts = starts.iter().flat_map(|start| (0..length).map(move |i| start + i * stride)).collect();
        }
        let stride = self.strides[outer.len()];
        let mut data = Vec::with_capacity(starts.len() * row * size);
        for start in starts {
            (0..row).for_each(|i| data.extend_from_slice(bytes(start + i * stride, 1)));
        }
        Cow::Owned(data)
    }
}

/// A product of counts, unless that is no number.
fn product(counts: &[usize]) -> Option<usize> {
    counts.iter().try_fold(1usize, |product, &count| product.checked_mul(count))
}

/// The key of a storage and the type of its elements.
fn storage_of(object: Object) -> Found<(String, DType)> {
    let wrong = "its storage is not described as torch does";
    let parts = object.persistent_load().and_then(Object::tuple).map_err(|_| wrong)?;
    let [_, Object::Class { class_name, .. }, Object::Unicode(key), _, _, rest @ ..] = parts.as_slice() else {
        return Err(wrong.into());
    };
    if rest.iter().any(|part| *part != Object::None) {
        return Err("its storage is a view of another, as in files of torch before 0.4".into());
    }
    let dtype = match class_name.as_str() {
        "FloatStorage" => DType::F32,
        "DoubleStorage" => DType::F64,
        "HalfStorage" => DType::F16,
        "BFloat16Storage" => DType::BF16,
        "LongStorage" => DType::I64,
        "IntStorage" => DType::I32,
        "ShortStorage" => DType::I16,
        "ByteStorage" | "BoolStorage" => DType::U8,
        other => return Err(format!("elements of type `{other}` are not supported")),
    };
    Ok((key.clone(), dtype))
}

fn number(object: Object) -> Found<usize> {
    let number = object.int_or_long().map_err(|_| "a size is not a number")?;
    usize::try_from(number).map_err(|_| "a size is negative".into())
}

fn numbers(object: Object) -> Found<Vec<usize>> {
    object.tuple().map_err(|_| "sizes must be a tuple")?.into_iter().map(number).collect()
}
