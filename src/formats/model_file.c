/* A model's file holds its weights: PyTorch's names and layouts, no metadata but "format":"pt". */

#include <heed/formats.h>

heed_status heed_model_save(const heed_model *m, const char *path, heed_error *err)
{
    return heed_weights_save(heed_model_weights((heed_model *)m), HEED_WEIGHTS_MODEL, path, err);
}

heed_status heed_model_load(heed_model *m, const char *path, heed_error *err)
{
    return heed_weights_load(heed_model_weights(m), HEED_WEIGHTS_MODEL, path, err);
}

heed_status heed_model_load_memory(heed_model *m, const void *bytes, size_t size, heed_error *err)
{
    return heed_weights_load_memory(heed_model_weights(m), HEED_WEIGHTS_MODEL, bytes, size, err);
}
