/* The program `eider-engine`: the zygote and the workers it forks. The server starts it. */
#include "build_word.h"
#include "worker.h"

#include <stdio.h>
#include <string.h>

int main(int count, char **arguments)
{
    if (count == 3 && strcmp(arguments[1], "zygote") == 0) {
        return strcmp(arguments[2], build_word()) == 0 ? worker_zygote_main()
                                                       : WORKER_EXIT_OTHER_BUILD;
    }
    (void)printf("eider-engine %s, build %s\n"
                 "The processes that run SQL. `eider serve` starts it; there is nothing to do by "
                 "hand.\n",
                 EIDER_VERSION, build_word());
    return count == 1 ? 0 : 2;
}
