//! `saymask.mask`: pycocotools' functions over `coco-mask`.

use coco_mask::{MaskError, Merge, Rle};
use numpy::npyffi::NPY_ORDER;
use numpy::{PyArray1, PyArray2, PyArray3, PyArrayMethods, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use crate::{arguments, arrays, errors, rle};

/// Run lengths of a mask, or of each of several.
///
/// Parameters
/// ----------
/// bimask : numpy.ndarray of uint8 or bool
///     ``(height, width)`` or ``(height, width, n)``; everything but 0 is foreground. Fortran order is read where it lies, other orders
///     and negative strides are turned on the way.
///
/// Returns
/// -------
/// dict or list of dict
///     ``{"size": [height, width], "counts": bytes}``; a list of n of them for a third axis.
#[pyfunction]
pub(crate) fn encode<'py>(py: Python<'py>, bimask: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    const SHAPE: &str = "of shape (height, width) or (height, width, n)";
    let array = arrays::bytes(bimask, "bimask", SHAPE)?;
    let side = |axis: usize| u32::try_from(array.shape().get(axis).copied().unwrap_or(0)).unwrap_or(u32::MAX);
    let (height, width) = (side(0), side(1));
    let wrong = |e: MaskError| errors::value("bimask", e);
    match array.ndim() {
        2 => {
            let rows = array.is_c_contiguous() && !array.is_fortran_contiguous();
            let array = arrays::contiguous(array, if rows { "C" } else { "F" })?;
            let bytes = array.as_slice()?;
            let encoded = py.detach(|| {
                let mask =
                    if rows { Rle::from_row_major(height, width, bytes) } else { Rle::from_column_major(height, width, bytes) };
                mask.map(|mask| mask.to_compressed())
            });
            Ok(rle::dict(py, (height, width), encoded.map_err(wrong)?.as_bytes())?.into_any())
        }
        3 => {
            let array = arrays::contiguous(array, "F")?;
            // Also where there is no mask at all, a size must be one.
            let pixels = Rle::empty(height, width).map_err(wrong)?.counts()[0] as usize;
            let bytes = array.as_slice()?;
            let encode = |bytes| Rle::from_column_major(height, width, bytes).map(|mask| mask.to_compressed());
            let encoded: Vec<String> = py.detach(|| bytes.chunks(pixels).map(encode).collect::<Result<_, _>>()).map_err(wrong)?;
            list(py, &encoded, |counts| rle::dict(py, (height, width), counts.as_bytes()))
        }
        _ => Err(errors::value("bimask", format!("must be {SHAPE}, not {:?}", array.shape()))),
    }
}

fn list<'py, T>(py: Python<'py>, items: &[T], dict: impl Fn(&T) -> PyResult<Bound<'py, PyDict>>) -> PyResult<Bound<'py, PyAny>> {
    let dicts = items.iter().map(dict).collect::<PyResult<Vec<_>>>()?;
    Ok(PyList::new(py, dicts)?.into_any())
}

/// Pixels of a mask, or of each of several masks of one size.
///
/// Parameters
/// ----------
/// rleObjs : dict or list of dict
///     Masks with compressed (bytes or str) or uncompressed (list of int) counts.
///
/// Returns
/// -------
/// numpy.ndarray of uint8
///     0 and 1, ``(height, width)``, or ``(height, width, n)`` for a list; in Fortran order.
#[pyfunction]
#[pyo3(signature = (rleObjs))]
#[allow(non_snake_case, reason = "pycocotools' name of the argument")]
pub(crate) fn decode<'py>(py: Python<'py>, rleObjs: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    if !arrays::is_list(rleObjs) {
        let mask = rle::from_dict(rleObjs, &|| "rleObjs".into())?;
        let out = PyArray2::<u8>::zeros(py, sides(&mask), true);
        draw(py, std::slice::from_ref(&mask), out.try_readwrite()?.as_slice_mut()?)?;
        return Ok(out.into_any());
    }
    let masks = rle::from_list(rleObjs, "rleObjs")?;
    let [height, width] = masks.first().map_or([0, 0], sides);
    if let Some((i, other)) = masks.iter().enumerate().find(|(_, mask)| sides(mask) != [height, width]) {
        let [h, w] = sides(other);
        let what =
            format!("is {h} x {w} where the first is {height} x {width} (height x width): masks of one size share an array");
        return Err(errors::value(&format!("rleObjs[{i}]"), what));
    }
    let out = PyArray3::<u8>::zeros(py, [height, width, masks.len()], true);
    draw(py, &masks, out.try_readwrite()?.as_slice_mut()?)?;
    Ok(out.into_any())
}

fn sides(mask: &Rle) -> [usize; 2] {
    [mask.height() as usize, mask.width() as usize]
}

/// Masks of one size into zeros, one behind the other.
fn draw(py: Python<'_>, masks: &[Rle], out: &mut [u8]) -> PyResult<()> {
    let pixels = masks.first().map_or(1, |mask| sides(mask).iter().product());
    let drawn = py.detach(|| out.chunks_mut(pixels).zip(masks).try_for_each(|(out, mask)| mask.draw_column_major(1, out)));
    drawn.map_err(|e| errors::value("rleObjs", e))
}

/// Foreground pixels of a mask, or of each of several.
///
/// Parameters
/// ----------
/// rleObjs : dict or list of dict
///     Masks, as for ``decode``; a list may hold several sizes.
///
/// Returns
/// -------
/// numpy.uint32, or numpy.ndarray of uint32
///     Pixels; shape ``(n,)`` for a list.
#[pyfunction]
#[pyo3(signature = (rleObjs))]
#[allow(non_snake_case, reason = "pycocotools' name of the argument")]
pub(crate) fn area<'py>(py: Python<'py>, rleObjs: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    // At most 2^28 pixels.
    let of = |mask: &Rle| mask.area() as u32;
    if arrays::is_list(rleObjs) {
        let areas: Vec<u32> = rle::from_list(rleObjs, "rleObjs")?.iter().map(of).collect();
        return Ok(PyArray1::from_vec(py, areas).into_any());
    }
    let mask = rle::from_dict(rleObjs, &|| "rleObjs".into())?;
    PyArray1::from_slice(py, &[of(&mask)]).get_item(0)
}

/// Tight boxes around masks.
///
/// Parameters
/// ----------
/// rleObjs : dict or list of dict
///     Masks, as for ``decode``; a list may hold several sizes.
///
/// Returns
/// -------
/// numpy.ndarray of float64
///     ``[x, y, width, height]`` in pixels, shape ``(4,)``, or ``(n, 4)`` for a list; zeros for an empty mask.
#[pyfunction(name = "toBbox")]
#[pyo3(signature = (rleObjs))]
#[allow(non_snake_case, reason = "pycocotools' name of the argument")]
pub(crate) fn to_bbox<'py>(py: Python<'py>, rleObjs: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    if arrays::is_list(rleObjs) {
        let boxes: Vec<f64> = rle::from_list(rleObjs, "rleObjs")?.iter().flat_map(Rle::bbox).collect();
        let count = boxes.len() / 4;
        return Ok(PyArray1::from_vec(py, boxes).reshape([count, 4])?.into_any());
    }
    Ok(arrays::bbox(py, rle::from_dict(rleObjs, &|| "rleObjs".into())?.bbox()).into_any())
}

/// What `iou` compares.
enum Objects {
    Masks(Vec<Rle>),
    Boxes(Vec<[f64; 4]>),
}

impl Objects {
    fn read(object: &Bound<'_, PyAny>, argument: &str) -> PyResult<Self> {
        if object.cast::<PyUntypedArray>().is_ok() {
            return boxes_of_array(object, argument).map(Self::Boxes);
        }
        if !arrays::is_list(object) {
            let what = "must be a list of masks, or boxes as a list or an array of shape (n, 4)";
            return Err(errors::kind(argument, format!("{what}, not {}", arrays::type_name(object))));
        }
        let items = arrays::items(object)?;
        if items.first().is_some_and(|item| item.is_instance_of::<PyDict>()) {
            return rle::from_list(object, argument).map(Self::Masks);
        }
        items
            .iter()
            .enumerate()
            .map(|(i, item)| boxed(item, &format!("{argument}[{i}]")))
            .collect::<PyResult<_>>()
            .map(Self::Boxes)
    }

    fn len(&self) -> usize {
        match self {
            Self::Masks(masks) => masks.len(),
            Self::Boxes(boxes) => boxes.len(),
        }
    }
}

fn boxed(object: &Bound<'_, PyAny>, argument: &str) -> PyResult<[f64; 4]> {
    let numbers = arrays::floats(object, argument)?;
    let found = numbers.len();
    numbers.try_into().map_err(|_| errors::value(argument, format!("must be [x, y, width, height], not {found} numbers")))
}

/// Boxes of an array; one of shape (4,) is a single box.
fn boxes_of_array(object: &Bound<'_, PyAny>, argument: &str) -> PyResult<Vec<[f64; 4]>> {
    let array = object.cast::<PyUntypedArray>()?;
    let (shape, empty) = (array.shape(), array.is_empty());
    if !empty && shape.last() != Some(&4) || shape.len() > 2 {
        return Err(errors::value(argument, format!("an array holds boxes, so its shape must be (n, 4), not {shape:?}")));
    }
    Ok(arrays::floats(object, argument)?.as_chunks::<4>().0.to_vec())
}

/// Intersection over union of every detection with every truth.
///
/// Parameters
/// ----------
/// dt, gt : list of dict, list of boxes, or numpy.ndarray of shape (n, 4)
///     Both masks, or both boxes ``[x, y, width, height]`` in pixels.
/// pyiscrowd : sequence of bool or int
///     Per truth, whether it is a crowd: the intersection is then taken over the detection's area.
///
/// Returns
/// -------
/// numpy.ndarray of float64
///     ``(len(dt), len(gt))`` in Fortran order; ``[]`` where either is empty. -1 where masks differ in size and their boxes meet.
#[pyfunction]
pub(crate) fn iou<'py>(
    py: Python<'py>,
    dt: &Bound<'py, PyAny>,
    gt: &Bound<'py, PyAny>,
    pyiscrowd: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let (detections, truths) = (Objects::read(dt, "dt")?, Objects::read(gt, "gt")?);
    let crowd: Vec<bool> = arrays::floats(pyiscrowd, "pyiscrowd")?.into_iter().map(|v| v != 0.0).collect();
    let shape = [detections.len(), truths.len()];
    if crowd.len() != shape[1] {
        return Err(errors::value("pyiscrowd", format!("must have one value per gt, {}, not {}", shape[1], crowd.len())));
    }
    if shape.contains(&0) {
        return Ok(PyList::empty(py).into_any());
    }
    let overlaps = match (&detections, &truths) {
        (Objects::Masks(dt), Objects::Masks(gt)) => py.detach(|| coco_mask::iou_pairs(dt, gt, &crowd)),
        (Objects::Boxes(dt), Objects::Boxes(gt)) => py.detach(|| coco_mask::box_iou_pairs(dt, gt, &crowd)),
        _ => return Err(errors::value("gt", "must be masks where dt is masks, and boxes where dt is boxes")),
    };
    Ok(PyArray1::from_vec(py, overlaps).reshape_with_order(shape, NPY_ORDER::NPY_FORTRANORDER)?.into_any())
}

/// The union or the intersection of masks of one size.
///
/// Parameters
/// ----------
/// rleObjs : list of dict
///     Masks, as for ``decode``. Of none, the result has size ``[0, 0]``.
/// intersect : bool
///     Foreground where all have it instead of where any has.
///
/// Returns
/// -------
/// dict
///     ``{"size": [height, width], "counts": bytes}``.
#[pyfunction]
#[pyo3(signature = (rleObjs, intersect=None))]
#[allow(non_snake_case, reason = "pycocotools' name of the argument")]
pub(crate) fn merge<'py>(
    py: Python<'py>,
    rleObjs: &Bound<'py, PyAny>,
    intersect: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyDict>> {
    if !arrays::is_list(rleObjs) {
        return Err(errors::kind("rleObjs", format!("must be a list of masks, not {}", arrays::type_name(rleObjs))));
    }
    let how = match intersect {
        Some(flag) if flag.is_truthy()? => Merge::Intersection,
        _ => Merge::Union,
    };
    let masks = rle::from_list(rleObjs, "rleObjs")?;
    if masks.is_empty() {
        return rle::dict(py, (0, 0), b"");
    }
    let merged = py.detach(|| coco_mask::merge(&masks, how));
    rle::to_dict(py, &merged.map_err(|e| errors::value("rleObjs", e))?)
}

/// Run lengths of polygons, boxes, or uncompressed run lengths.
///
/// Parameters
/// ----------
/// pyobj : list or numpy.ndarray or dict
///     A polygon ``[x0, y0, x1, y1, ...]`` of three points or more, a box ``[x, y, width, height]``, uncompressed run lengths
///     ``{"size": [h, w], "counts": [..]}``, or a list of one of these; or boxes as an array of shape ``(n, 4)``. In pixels.
/// h, w : int
///     The image's height and width in pixels; run lengths have their own.
///
/// Returns
/// -------
/// dict or list of dict
///     Like ``pyobj``, one or a list.
#[pyfunction(name = "frPyObjects")]
pub(crate) fn fr_py_objects<'py>(
    py: Python<'py>,
    pyobj: &Bound<'py, PyAny>,
    #[pyo3(from_py_with = arguments::h)] h: u32,
    #[pyo3(from_py_with = arguments::w)] w: u32,
) -> PyResult<Bound<'py, PyAny>> {
    const ARGUMENT: &str = "pyobj";
    if pyobj.is_instance_of::<PyDict>() {
        return Ok(rle::to_dict(py, &rle::from_dict(pyobj, &|| ARGUMENT.into())?)?.into_any());
    }
    if pyobj.cast::<PyUntypedArray>().is_ok() {
        let boxes = boxes_of_array(pyobj, ARGUMENT)?;
        return all(py, &boxes, |at| Rle::from_box(h, w, *at));
    }
    if !arrays::is_list(pyobj) {
        let what = "must be polygons, boxes or run lengths, as a list, an array or a dict";
        return Err(errors::kind(ARGUMENT, format!("{what}, not {}", arrays::type_name(pyobj))));
    }
    let items = arrays::items(pyobj)?;
    let Some(first) = items.first() else { return Err(errors::value(ARGUMENT, "is empty: at least one object is needed")) };
    if first.is_instance_of::<PyDict>() {
        return list(py, &rle::from_list(pyobj, ARGUMENT)?, |mask| rle::to_dict(py, mask));
    }
    if first.extract::<f64>().is_ok() {
        let mask = outline(&arrays::floats(pyobj, ARGUMENT)?, h, w, 5);
        return Ok(rle::to_dict(py, &mask.map_err(|e| errors::value(ARGUMENT, e))?)?.into_any());
    }
    let outlines = items.iter().enumerate().map(|(i, item)| arrays::floats(item, &format!("{ARGUMENT}[{i}]")));
    let outlines: Vec<Vec<f64>> = outlines.collect::<PyResult<_>>()?;
    // pycocotools goes by the first: boxes, or polygons of which later ones may be points and lines.
    let boxes = outlines.first().is_some_and(|first| first.len() == 4);
    if let Some((i, other)) = outlines.iter().enumerate().find(|(_, other)| boxes && other.len() != 4) {
        let what = format!("must be a box like the first, [x, y, width, height], not {} numbers", other.len());
        return Err(errors::value(&format!("{ARGUMENT}[{i}]"), what));
    }
    let least = |i: usize| if boxes || i == 0 { 5 } else { 2 };
    let indexed: Vec<(usize, Vec<f64>)> = outlines.into_iter().enumerate().collect();
    all(py, &indexed, |(i, numbers)| if boxes { outline(numbers, h, w, 5) } else { polygon(numbers, h, w, *i, least(*i)) })
}

/// A box of four numbers, or a polygon.
fn outline(numbers: &[f64], h: u32, w: u32, least: usize) -> Result<Rle, MaskError> {
    match numbers {
        [x, y, width, height] => Rle::from_box(h, w, [*x, *y, *width, *height]),
        numbers => polygon(numbers, h, w, 0, least),
    }
}

fn polygon(numbers: &[f64], h: u32, w: u32, index: usize, least: usize) -> Result<Rle, MaskError> {
    if numbers.len() < least {
        return Err(MaskError::PolygonLength { polygon: index, found: numbers.len(), least });
    }
    Rle::from_polygon(h, w, numbers)
}

fn all<'py, T: Sync>(
    py: Python<'py>,
    objects: &[T],
    draw: impl Fn(&T) -> Result<Rle, MaskError> + Sync,
) -> PyResult<Bound<'py, PyAny>> {
    let masks: Result<Vec<Rle>, (usize, MaskError)> =
        py.detach(|| objects.iter().enumerate().map(|(i, object)| draw(object).map_err(|e| (i, e))).collect());
    list(py, &masks.map_err(|(i, e)| errors::value(&format!("pyobj[{i}]"), e))?, |mask| rle::to_dict(py, mask))
}
