// What the network's passes saw of an image, as labels.py writes it down; each.h and taps.h come first.
#pragma once

namespace segnext {

// One pass: windows over the network's input, each resized from stride 8 to its size in pixels, averaged where they
// overlap, and the input resized again to the image where `again`.
struct View {
    int windows, h, w, window_height, window_width, height, width, again;
    const int* corners;  // top and left of each window
    Taps rows, columns, image_rows, image_columns;

    SEGNEXT_EACH bool whole() const { return windows == 1 && window_height == height && window_width == width; }
};

// Reads the passes one after the other.
class Plan {
  public:
    int views, classes, height, width;

    SEGNEXT_EACH Plan(const int* numbers, const float* weights)
        : views(numbers[0]), classes(numbers[1]), height(numbers[2]), width(numbers[3]), numbers(numbers + 4), weights(weights) {}

    SEGNEXT_EACH View next() {
        View view{};
        int* const members[] = {&view.windows, &view.h,     &view.w,    &view.window_height, &view.window_width,
                                &view.height,  &view.width, &view.again};
        for (int* member : members) *member = *numbers++;
        view.corners = numbers;
        numbers += 2 * view.windows;
        view.rows = taps(view.window_height);
        view.columns = taps(view.window_width);
        view.image_rows = taps(view.again ? height : 0);
        view.image_columns = taps(view.again ? width : 0);
        return view;
    }

  private:
    const int* numbers;
    const float* weights;

    SEGNEXT_EACH Taps taps(int outputs) {
        const Taps result{numbers, numbers + outputs, weights, outputs};
        numbers += 2 * outputs;
        weights += outputs;
        return result;
    }
};

}  // namespace segnext
