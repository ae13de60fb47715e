/* heed/heed.h: everything. One page to start from: base.h (contexts, errors), tensor.h, graph.h (building), ops.h,
 * attention.h, attend.h, nn.h (layers), edit.h, session.h (running), model.h, metrics.h, train.h, data.h, image.h, formats.h,
 * explain.h, doctor.h, task.h, bench.h. */
#ifndef HEED_H
#define HEED_H

#include <heed/base.h>
#include <heed/tensor.h>
#include <heed/graph.h>
#include <heed/ops.h>
#include <heed/attention.h>
#include <heed/attend.h>
#include <heed/nn.h>
#include <heed/edit.h>
#include <heed/session.h>
#include <heed/model.h>
#include <heed/formats.h>
#include <heed/image.h>
#include <heed/data.h>
#include <heed/metrics.h>
#include <heed/train.h>
#include <heed/explain.h>
#include <heed/doctor.h>
#include <heed/task.h>
#include <heed/bench.h>

#endif
